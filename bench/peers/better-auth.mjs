// What someone writes who guards a service with better-auth's API keys: the
// plugin on SQLite, and a server that asks it about every request.
//
//   node better-auth.mjs DATABASE wal|plain < keys, one a line
import { createServer } from 'node:http'
import { readFileSync } from 'node:fs'
import Database from 'better-sqlite3'
import { betterAuth } from 'better-auth'
import { getMigrations } from 'better-auth/db/migration'
import { apiKey } from '@better-auth/api-key'

const [path, journal] = process.argv.slice(2)
const keys = readFileSync(0, 'utf8').trim().split('\n')
const database = new Database(path)
if (journal === 'wal') database.pragma('journal_mode = WAL')

let next = 0
const options = {
  database,
  secret: 'a secret of the benchmark, 32 characters',
  baseURL: 'http://127.0.0.1',
  logger: { disabled: true },
  telemetry: { enabled: false },
  emailAndPassword: { enabled: true },
  plugins: [apiKey({
    rateLimit: { enabled: false }, // as it comes: ten verifications a key a day
    customKeyGenerator: () => keys[next++], // the same keys for all
  })],
}
await (await getMigrations(options)).runMigrations()
const auth = betterAuth(options)
const { user } = await auth.api.signUpEmail({ body: { name: 'Bench', email: 'bench@example.com', password: 'correct horse battery' } })
const ids = new Map()
// Making them is not measured, and one transaction makes it bearable.
database.exec('BEGIN')
for (const key of keys) ids.set(key, (await auth.api.createApiKey({ body: { userId: user.id, name: 'Service' } })).id)
database.exec('COMMIT')

const server = createServer(async (request, response) => {
  const key = (request.headers.authorization ?? '').replace(/^Bearer /, '')
  if (request.method === 'DELETE') { // the benchmark takes a key away
    await auth.api.updateApiKey({ body: { keyId: ids.get(key), userId: user.id, enabled: false } })
    return response.end('revoked')
  }
  const result = await auth.api.verifyApiKey({ body: { key } })
  if (!result.valid) {
    response.statusCode = 401
    return response.end('no')
  }
  response.end('hello')
})
server.keepAliveTimeout = 600_000
server.listen(0, '127.0.0.1', () => console.log('peer listens on 127.0.0.1:' + server.address().port))
