// TLS service: recognizes the requests that came through the workbench's own TLS service.
// Rule: only its address, found by its name, may name the client; any other peer is a client itself.

import { lookup } from "node:dns/promises";

const MAX_AGE_MS = 1000;

export class TlsService {
  #addresses = new Set();
  #resolvedAt = -Infinity;

  constructor(name, resolve = lookup) {
    this.name = name;
    this.resolve = resolve;
  }

  /** Return whether `address` is the service's; an unknown address is looked up at most once a second. */
  async has(address) {
    const peer = (address ?? "").replace(/^::ffff:/, "");
    if (!this.#addresses.has(peer) && performance.now() - this.#resolvedAt > MAX_AGE_MS) {
      this.#resolvedAt = performance.now();
      try {
        this.#addresses = new Set((await this.resolve(this.name, { all: true })).map((found) => found.address));
      } catch {
        this.#addresses = new Set(); // the service does not run: no request comes from it
      }
    }
    return this.#addresses.has(peer);
  }
}

/** Return X-Forwarded-For without its last address, the one that http-proxy-3 appended. */
export function withoutLastAddress(forwarded) {
  return forwarded.split(",").slice(0, -1).join(",");
}
