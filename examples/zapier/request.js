'use strict';

// What every request to the product has in common.

// url is where the product's API is. Set it with
// "zapier env:set 1.0.0 BASE_URL=https://api.example.com".
const url = (path) => `${(process.env.BASE_URL || 'http://127.0.0.1:8080').replace(/\/+$/, '')}${path}`;

// addKey sends the key that the person connected with. Zapier runs it before
// every request.
const addKey = (request, z, bundle) => {
  const key = String((bundle.authData && bundle.authData.api_key) || '').trim();
  if (/[^\x21-\x7e]/.test(key)) {
    // Dots of a masked preview, or a space: no header can carry the first.
    throw new z.errors.Error(
      'Authentication failed: this is not the whole key. A masked preview from the list does not work; ' +
        'use the key as it was shown once, when it was created.',
      'malformed',
      401
    );
  }
  request.headers = { ...request.headers, Accept: 'application/json', Authorization: `Bearer ${key}` };
  return request;
};

// explain shows what the server says about a refusal (RFC 9457) instead of a
// bare status. Zapier runs it after every request.
const explain = (response, z) => {
  if (response.status < 400) {
    return response;
  }
  let problem = {};
  try {
    problem = JSON.parse(response.content) || {};
  } catch {
    // Something between here and the server has answered.
  }
  const words = [`${problem.title || 'The request failed'}:`, problem.detail || `status ${response.status}.`, ...(problem.fixes || []).slice(0, 1)];
  throw new z.errors.Error(words.join(' '), problem.code || 'unknown', response.status);
};

module.exports = { url, addKey, explain };
