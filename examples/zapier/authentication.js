'use strict';

const { url } = require('./request');

// test asks the product about the key itself. Any key may, whatever its role.
const test = async (z) => {
  const response = await z.request({ url: url('/v1/me') });
  return response.data;
};

module.exports = {
  type: 'custom',
  fields: [
    {
      key: 'api_key',
      label: 'API Key',
      type: 'password',
      required: true,
      helpText: 'Create a key under Integrations > API Keys, and paste it here. It is shown only once, when it is created.',
    },
  ],
  test,
  // From the answer of the test: the key's name and where it belongs.
  connectionLabel: '{{name}} ({{workspace_name}})',
};
