'use strict';

const { version, dependencies } = require('./package.json');
const authentication = require('./authentication');
const { addKey, explain } = require('./request');
const accessChanged = require('./triggers/access_changed');
const keyExpiring = require('./triggers/key_expiring');

module.exports = {
  version,
  // The version that package.json pins, so that the file can be loaded and
  // tested before anything is installed.
  platformVersion: dependencies['zapier-platform-core'],
  flags: { cleanInputData: false },
  authentication,
  beforeRequest: [addKey],
  afterResponse: [explain],
  triggers: {
    [accessChanged.key]: accessChanged,
    [keyExpiring.key]: keyExpiring,
  },
};
