'use strict';

const { url } = require('../request');

// perform returns one item, whose id changes with what the key may do: Zapier
// starts the Zap when it sees an id for the first time.
const perform = async (z) => {
  const { data: key } = await z.request({ url: url('/v1/me') });
  const permissions = [...(key.permissions || [])].sort();
  return [
    {
      id: z.hash('sha256', JSON.stringify([key.key_id, key.role, permissions])),
      key_id: key.key_id,
      name: key.name,
      workspace: key.workspace_name,
      role: key.role,
      permissions,
    },
  ];
};

module.exports = {
  key: 'access_changed',
  noun: 'Access',
  display: {
    label: 'Access Changed',
    description: 'Triggers when the role or the permissions of the connected key change.',
  },
  operation: {
    type: 'polling',
    perform,
    sample: {
      id: '5f1c',
      key_id: 'key_0ktv3m2a8s0c5f9b1d7e6g4h2j',
      name: 'Zapier Production',
      workspace: 'Example Inc.',
      role: 'zapier',
      permissions: ['calls.*', 'contacts.*'],
    },
  },
};
