'use strict';

// Runs the Zapier app in the way that Zapier does: its middleware around every
// request. Reads a list of calls from standard input, as JSON, and writes what
// came of each. Usage: node zapier.js DIRECTORY

const crypto = require('node:crypto');
const path = require('node:path');

const app = require(path.resolve(process.argv[2]));

class AppError extends Error {
  constructor(message, code, status) {
    super(message);
    Object.assign(this, { code, status });
  }
}

const zFor = (bundle) => {
  const z = {
    errors: { Error: AppError },
    hash: (algorithm, text) => crypto.createHash(algorithm).update(text).digest('hex'),
  };
  z.request = async (options) => {
    let request = { method: 'GET', headers: {}, ...options };
    for (const before of app.beforeRequest) {
      request = await before(request, z, bundle);
    }
    const answer = await fetch(request.url, { method: request.method, headers: request.headers });
    const content = await answer.text();
    let data;
    try {
      data = JSON.parse(content);
    } catch {
      data = undefined;
    }
    let response = { status: answer.status, headers: answer.headers, content, data, request };
    for (const after of app.afterResponse) {
      response = await after(response, z, bundle);
    }
    if (response.status >= 400) {
      throw new AppError(`Got ${response.status}`, '', response.status);
    }
    return response;
  };
  return z;
};

const run = async ({ call, api_key, input }) => {
  const bundle = { authData: { api_key }, inputData: input || {} };
  const perform = call === 'test' ? app.authentication.test : app.triggers[call].operation.perform;
  try {
    return { value: await perform(zFor(bundle), bundle) };
  } catch (e) {
    return { message: e.message, code: e.code, status: e.status };
  }
};

const main = async () => {
  const text = [];
  for await (const chunk of process.stdin) {
    text.push(chunk);
  }
  const out = { version: app.version, platform: app.platformVersion, fields: app.authentication.fields.map((f) => [f.key, f.type, f.required]), results: [] };
  for (const call of JSON.parse(Buffer.concat(text).toString())) {
    out.results.push(await run(call));
  }
  process.stdout.write(JSON.stringify(out));
};

main().catch((e) => {
  console.error(e);
  process.exitCode = 1;
});
