// Signs in with a passkey, or makes one: asks the server what the authenticator
// is to do, and sends what it says with the form.

const bytes = (text) => Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');

async function ask(form) {
  const answer = await fetch(form.dataset.options, { method: 'POST', body: new URLSearchParams(new FormData(form)) });
  if (answer.status === 401) location.reload(); // signed out meanwhile
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  const { publicKey } = await answer.json();
  publicKey.challenge = bytes(publicKey.challenge);
  if (publicKey.user) publicKey.user.id = bytes(publicKey.user.id);
  for (const list of ['allowCredentials', 'excludeCredentials']) {
    for (const c of publicKey[list] ?? []) c.id = bytes(c.id);
  }
  return navigator.credentials[form.dataset.passkey]({ publicKey });
}

function written(credential) {
  const r = credential.response;
  const response = { clientDataJSON: text(r.clientDataJSON) };
  for (const field of ['attestationObject', 'authenticatorData', 'signature', 'userHandle']) {
    if (r[field]) response[field] = text(r[field]);
  }
  if (r.getTransports) response.transports = r.getTransports();
  return JSON.stringify({ id: credential.id, rawId: text(credential.rawId), type: credential.type, response,
    clientExtensionResults: credential.getClientExtensionResults() });
}

// prove signs in without leaving the page, and sends the form that has waited.
async function prove(form) {
  const answer = await fetch(form.action, { method: 'POST', body: new URLSearchParams(new FormData(form)), redirect: 'manual' });
  if (answer.type !== 'opaqueredirect') throw new Error(`the server answered ${answer.status}`);
  document.getElementById(form.dataset.then).requestSubmit();
}

for (const form of document.querySelectorAll('form[data-passkey]')) {
  const failed = form.querySelector('[data-failed]');
  const button = form.querySelector('button');
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    failed.hidden = true;
    button.disabled = true;
    try {
      form.elements.credential.value = written(await ask(form));
      if (form.dataset.then) await prove(form);
      else form.submit(); // which asks nobody again
    } catch {
      failed.hidden = false;
      button.disabled = false;
    }
  });
}
