import assert from "node:assert/strict";
import test from "node:test";
import { filterHeaders, limitCookie, ownPath } from "./answer-filter.mjs";

const MALLORY = "/user/mallory/";
const OWN_HOST = { isOwnHost: true };

test("the path of a server is its route without the host", () => {
  assert.equal(ownPath("/user/mallory", false), MALLORY);
  assert.equal(ownPath("/gpu/user/mallory/lab", false), "/gpu/user/mallory/lab/");
  assert.equal(ownPath("/mallory.lab.test/user/mallory", true), MALLORY);
});

for (const path of ["", "/", "/hub/", "/user/", "/user/malloryx/", "/user/alice/", "user/mallory/", "%2fuser/mallory/"]) {
  test(`a cookie for the path ${JSON.stringify(path)} is dropped`, () => {
    assert.equal(limitCookie(`a=b; Path=${path}`, MALLORY), null);
  });
}

test("the last path counts, as in a browser", () => {
  assert.equal(limitCookie("a=b; Path=/user/mallory/; path=/", MALLORY), null);
});

test("a path that a browser ignores is dropped", () => {
  assert.equal(limitCookie(`a=b; Path=${MALLORY}${"x".repeat(2000)}`, MALLORY), null);
});

test("a cookie of the server itself is kept without a domain", () => {
  assert.equal(
    limitCookie("a=b=c; Domain=.lab.test; HttpOnly; PATH = /user/mallory/lab/", MALLORY),
    "a=b=c; HttpOnly; Path=/user/mallory/lab/",
  );
});

test("a cookie without a path gets the server's", () => {
  assert.equal(limitCookie("a=b", MALLORY), "a=b; Path=/user/mallory/");
  assert.equal(limitCookie("a=b", "/user/a b@c/"), "a=b; Path=/user/a%20b@c/");
});

test("a cookie is Secure with https", () => {
  assert.equal(limitCookie("a=b", MALLORY, { isHttps: true }), "a=b; Secure; Path=/user/mallory/");
  assert.equal(limitCookie("a=b; secure", MALLORY, { isHttps: true }), "a=b; secure; Path=/user/mallory/");
});

test("a host of the user's own has its own __Host- cookies", () => {
  const cookie = "__Host-state=b; Path=/; Secure";
  assert.equal(limitCookie(cookie, MALLORY, OWN_HOST), "__Host-state=b; Secure; Path=/");
  assert.equal(limitCookie(cookie, MALLORY), null);
  assert.equal(limitCookie("state=b; Path=/; Secure", MALLORY, OWN_HOST), null);
  assert.equal(limitCookie("__Host-state=b; Path=/hub/; Secure", MALLORY, OWN_HOST), null);
});

test("an escaped name is the server's own path", () => {
  assert.equal(limitCookie("a=b; Path=/user/a%40b/", "/user/a@b/"), "a=b; Path=/user/a%40b/");
});

test("headers for the whole origin are removed and sniffing is off", () => {
  const headers = {
    "service-worker-allowed": "/",
    "clear-site-data": '"*"',
    "set-cookie": ["a=b; Path=/"],
    "content-type": "text/html",
  };
  filterHeaders(headers, MALLORY);
  assert.deepEqual(headers, { "content-type": "text/html", "x-content-type-options": "nosniff" });
});
