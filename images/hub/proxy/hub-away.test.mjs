import assert from "node:assert/strict";
import test from "node:test";
import { answerHubAway, wantsPage } from "./hub-away.mjs";

const BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8";

class Answer {
  writableEnded = false;
  headersSent = false;
  writeHead(status, headers) {
    Object.assign(this, { status, headers, headersSent: true });
  }
  end(body) {
    Object.assign(this, { body, writableEnded: true });
  }
}

function answer(request, res = new Answer()) {
  answerHubAway({ method: "GET", headers: {}, ...request }, res);
  return res;
}

test("a navigation gets the page", () => {
  const res = answer({ url: "/gpu/hub/home?x=/hub/api", headers: { accept: BROWSER } });
  assert.equal(res.status, 503);
  assert.match(res.headers["Content-Type"], /^text\/html/);
  assert.match(String(res.body), /The workbench restarts/);
});

for (const [url, accept] of [["/hub/api/users", BROWSER], ["/gpu/hub/api", BROWSER], ["/hub/home", "*/*"], ["/hub/home", undefined]]) {
  test(`${url} for ${accept} gets JSON`, () => {
    assert.equal(wantsPage({ url, headers: { accept } }), false);
    const res = answer({ url, headers: { accept } });
    assert.equal(JSON.parse(res.body).status, 503);
    assert.equal(res.headers["Retry-After"], "5");
  });
}

test("HEAD has the headers and no body", () => {
  const res = answer({ url: "/hub/home", method: "HEAD" });
  assert.equal(res.headers["Workbench-Hub"], "away");
  assert.equal(res.body, undefined);
});

test("a started answer is only ended", () => {
  const res = new Answer();
  res.headersSent = true;
  answer({ url: "/hub/home" }, res);
  assert.equal(res.status, undefined);
  assert.ok(res.writableEnded);
});
