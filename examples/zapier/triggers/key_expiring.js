'use strict';

const { url } = require('../request');

const day = 24 * 60 * 60 * 1000; // milliseconds

// perform returns the connected key when its end is near, so that it can be
// replaced in time.
const perform = async (z, bundle) => {
  const { data: key } = await z.request({ url: url('/v1/me') });
  const days = Number((bundle.inputData && bundle.inputData.days) || 14);
  if (!key.expires_at || Date.parse(key.expires_at) - Date.now() > days * day) {
    return [];
  }
  return [
    {
      id: `${key.key_id}:${key.expires_at}`,
      key_id: key.key_id,
      name: key.name,
      workspace: key.workspace_name,
      expires_at: key.expires_at,
    },
  ];
};

module.exports = {
  key: 'key_expiring',
  noun: 'Key',
  display: {
    label: 'Key Expires Soon',
    description: 'Triggers once when the connected key is about to expire.',
  },
  operation: {
    type: 'polling',
    inputFields: [
      { key: 'days', label: 'Days Before', type: 'integer', default: '14', helpText: 'How many days before its end to trigger.' },
    ],
    perform,
    sample: {
      id: 'key_0ktv3m2a8s0c5f9b1d7e6g4h2j:2030-01-01T00:00:00Z',
      key_id: 'key_0ktv3m2a8s0c5f9b1d7e6g4h2j',
      name: 'Zapier Production',
      workspace: 'Example Inc.',
      expires_at: '2030-01-01T00:00:00Z',
    },
  },
};
