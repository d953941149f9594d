// Socket check: closes open websockets of a browser that a user's server no longer lets in.
// A server checks a websocket only at its beginning, so a terminal would outlive a log-out or a revocation.
//
// Every open websocket's server is asked again with the credentials of its handshake, once per period for all sockets of
// one browser. Only a refusal closes: a server or hub that does not answer says nothing about the user.

import http from "node:http";

export const PERIOD_MS = 20_000;
const ANSWER_MS = 10_000;
const REFUSALS = new Set([302, 401, 403]);
const CREDENTIALS = ["cookie", "authorization", "host"];

export class SocketCheck {
  #groups = new Map();
  #isRefused;

  /** `refused(group)` resolves to whether the server of `{url, headers}` refuses them; tests pass their own. */
  constructor(period = PERIOD_MS, refused = isRefused) {
    this.#isRefused = refused;
    setInterval(() => this.check(), period).unref();
  }

  /** Watch `socket` until it closes; `req` is its handshake, `server` the origin and `path` the path of its server. */
  watch(socket, req, server, path) {
    const url = checkedUrl(req, server, path);
    const headers = Object.fromEntries(CREDENTIALS.filter((name) => req.headers[name]).map((name) => [name, req.headers[name]]));
    const key = JSON.stringify([url, headers]);
    const group = this.#groups.get(key) ?? { url, headers, sockets: new Set() };
    this.#groups.set(key, group);
    group.sockets.add(socket);
    socket.once("close", () => {
      group.sockets.delete(socket);
      if (group.sockets.size === 0 && this.#groups.get(key) === group) this.#groups.delete(key);
    });
  }

  /** Ask the server of each group, and close the sockets of those that are refused. */
  async check() {
    await Promise.all([...this.#groups.values()].map(async (group) => {
      if (!(await this.#isRefused(group))) return;
      for (const socket of group.sockets) socket.destroy();
    }));
  }
}

/** Return the address that needs the same rights; Jupyter counts it as no activity. */
export function checkedUrl(req, server, path) {
  const url = new URL(`${path}api/status`, server);
  const token = new URL(req.url, server).searchParams.get("token");
  if (token !== null) url.searchParams.set("token", token);
  return url.href;
}

function isRefused({ url, headers }) {
  return new Promise((resolve) => {
    const request = http.get(url, { headers, timeout: ANSWER_MS }, (answer) => {
      answer.resume();
      resolve(REFUSALS.has(answer.statusCode));
    });
    request.on("timeout", () => request.destroy());
    request.on("error", () => resolve(false));
  });
}
