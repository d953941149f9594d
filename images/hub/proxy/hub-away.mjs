// Hub away: the answer of the proxy while the hub does not answer: a page that comes back by itself, JSON for programs.

import fs from "node:fs";

const PAGE = fs.readFileSync(new URL("hub-away.html", import.meta.url));
const SENTENCE = "The hub restarts; try again in a moment.";
const RETRY_AFTER_SECONDS = "5";
const HEADERS = {
  "Workbench-Hub": "away", // the page and the test of another proxy recognize this answer by it
  "Retry-After": RETRY_AFTER_SECONDS,
  "Cache-Control": "no-store",
  "X-Content-Type-Options": "nosniff",
  "Content-Security-Policy":
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
};

/** Return whether the request is a browser's navigation, and no program's call. */
export function wantsPage(req) {
  const path = req.url.split("?", 1)[0];
  return !/\/hub\/api(\/|$)/.test(path) && /\btext\/html\b/i.test(req.headers.accept ?? "");
}

/** Answer 503 with the page or with JSON; a started answer ends where it is. */
export function answerHubAway(req, res) {
  if (res.writableEnded) return;
  if (res.headersSent) return res.end();
  const [type, body] = wantsPage(req)
    ? ["text/html; charset=utf-8", PAGE]
    : ["application/json", JSON.stringify({ status: 503, message: SENTENCE })];
  res.writeHead(503, { ...HEADERS, "Content-Type": type, "Content-Length": Buffer.byteLength(body) });
  res.end(req.method === "HEAD" ? undefined : body);
}
