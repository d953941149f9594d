import assert from "node:assert/strict";
import test from "node:test";
import { TlsService, withoutLastAddress } from "./tls-service.mjs";

test("only the service's own address counts", async () => {
  const service = new TlsService("tls", async () => [{ address: "172.20.0.3" }]);
  assert.equal(await service.has("::ffff:172.20.0.3"), true);
  assert.equal(await service.has("172.20.0.3"), true);
  assert.equal(await service.has("172.20.0.30"), false);
  assert.equal(await service.has(undefined), false);
});

test("without the service every peer is a client", async () => {
  const service = new TlsService("tls", async () => {
    throw new Error("ENOTFOUND");
  });
  assert.equal(await service.has("172.20.0.3"), false);
});

test("strangers cause one lookup a second", async () => {
  let lookups = 0;
  const service = new TlsService("tls", async () => {
    lookups += 1;
    return [];
  });
  for (let number = 0; number < 20; number += 1) await service.has(`10.0.0.${number}`);
  assert.equal(lookups, 1);
});

test("the client of the TLS service is the last address", () => {
  assert.equal(withoutLastAddress("192.0.2.1, 198.51.100.7,172.20.0.3"), "192.0.2.1, 198.51.100.7");
});
