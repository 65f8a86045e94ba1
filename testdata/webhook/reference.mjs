// Signs and verifies with the libraries that others wrote, for
// webhook_reference_test.go: a list of questions on standard input, a list of
// answers on standard output. The libraries ask Date.now for the time, so each
// question brings its own.
import { readFileSync } from "node:fs";
import { Webhook as Standard } from "standardwebhooks";
import { Webhook as Svix } from "svix";

const libraries = { standardwebhooks: Standard, svix: Svix };

function answer({ library, secret, now, sign, verify }) {
  Date.now = () => now * 1000;
  try {
    const webhook = new libraries[library](secret);
    if (sign) {
      return { signature: webhook.sign(sign.id, new Date(sign.timestamp * 1000), sign.payload) };
    }
    webhook.verify(verify.payload, verify.headers);
    return { ok: true };
  } catch (error) {
    return { ok: false, error: String(error) };
  }
}

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(answer)));
