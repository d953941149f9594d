import assert from "node:assert/strict";
import test from "node:test";
import { mayReachHub } from "./hub-host.mjs";

const HUB = "lab.test:8000";

for (const host of ["lab.test", "lab.test:8000", "LAB.test:8000", "127.0.0.1:8000", "[::1]:8000", "localhost"]) {
  test(`the hub answers at ${host}`, () => assert.ok(mayReachHub(host, "/hub/home", HUB)));
}

for (const host of ["mallory.lab.test:8000", "mallory.lab.test.", "lab.test.", "evil.test", "", undefined]) {
  for (const path of ["/hub/home", "/hub/api/users", "/", "/%68ub/home", "/services/x/", "/user/../hub/login", "/user/%2e%2e/hub/", "/user/a/../../hub/"]) {
    test(`the hub does not answer ${path} at ${host}`, () => assert.equal(mayReachHub(host, path, HUB), false));
  }
}

test("a server that does not run leads to the hub", () => {
  assert.ok(mayReachHub("mallory.lab.test", "/user/mallory/lab", HUB));
});

test("without domains of users there is one host", () => assert.ok(mayReachHub("any.test", "/hub/home", "")));
