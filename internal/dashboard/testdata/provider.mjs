// An OpenID provider for the tests: npm's certified oidc-provider, with any
// name and password taken. Arguments: the package's directory, the client's ID,
// its secret, its redirect URI. Prints its issuer when it listens.
import { createServer } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [directory, id, secret, redirect] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(join(directory, 'lib', 'index.js')));

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{ client_id: id, client_secret: secret, redirect_uris: [redirect] }],
    cookies: { keys: ['of a test'] },
    pkce: { required: () => true },
    claims: { openid: ['sub'], profile: ['name'], email: ['email'] },
    conformIdTokenClaims: false,
    findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, name: `Name of ${sub}`, email: 'same@example.com' }) }),
  });
  server.on('request', provider.callback());
  console.log(issuer);
});
