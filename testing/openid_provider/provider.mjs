// An OpenID provider for tests: the certified oidc-provider, with accounts from a file that a test rewrites.
//
// usage: node provider.mjs PORT ACCOUNTS CLIENT_SECRET HUB
// ACCOUNTS is JSON: {"bob": {"groups": ["lab"]}}. Every password is right; an access token lives for two seconds.
import { readFileSync } from "node:fs";
import { Provider } from "oidc-provider";

const [port, accounts, secret, hub] = process.argv.slice(2);

function findAccount(_context, name) {
  const known = JSON.parse(readFileSync(accounts))[name];
  if (!known) return undefined;
  return { accountId: name, claims: () => ({ sub: name, preferred_username: name, ...known }) };
}

// every client has the consent of every user
async function loadExistingGrant(context) {
  const grant = new context.oidc.provider.Grant({
    clientId: context.oidc.client.clientId,
    accountId: context.oidc.session.accountId,
  });
  grant.addOIDCScope("openid profile email offline_access");
  await grant.save();
  return grant;
}

const provider = new Provider(`http://localhost:${port}`, {
  clients: [
    {
      client_id: "workbench",
      client_secret: secret,
      redirect_uris: [`${hub}/hub/oauth_callback`],
      post_logout_redirect_uris: [`${hub}/hub/login`],
      grant_types: ["authorization_code", "refresh_token"],
      token_endpoint_auth_method: "client_secret_post",
    },
  ],
  findAccount,
  loadExistingGrant,
  claims: { openid: ["sub"], profile: ["preferred_username", "groups"] },
  cookies: { keys: ["of a test"] },
  pkce: { required: () => true },
  issueRefreshToken: () => true,
  rotateRefreshToken: true,
  ttl: { AccessToken: 2 },
});
provider.on("server_error", (_context, error) => console.error(error));
provider.listen(Number(port), "127.0.0.1");
