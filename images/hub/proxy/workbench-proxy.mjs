#!/usr/bin/env node
// Workbench proxy: runs configurable-http-proxy, filters what users' servers answer, and answers for a hub that is away.
// Rule: an answer of a user's server changes nothing in a browser outside that server's own path.
//
// The options are those of configurable-http-proxy. With WORKBENCH_USER_DOMAINS=yes, routes are found by host name, and
// the hub answers at the host name of WORKBENCH_PUBLIC_URL only.
// The path of WORKBENCH_PUBLIC_URL is that of the hub's error pages too.

import ConfigurableProxy from "configurable-http-proxy/lib/configproxy.js";
import { filterHeaders, ownPath, passStream } from "./answer-filter.mjs";
import { answerHubAway } from "./hub-away.mjs";
import { mayReachHub } from "./hub-host.mjs";
import { PERIOD_MS, SocketCheck } from "./socket-check.mjs";
import { TlsService, withoutLastAddress } from "./tls-service.mjs";

const findTarget = ConfigurableProxy.prototype.targetForReq;
const answerError = ConfigurableProxy.prototype.handleProxyError;
const filtered = new WeakSet();
const PATH = Symbol("path of the user's server that answers this request");
const BY_TLS = Symbol("whether the request came through the TLS service");
const FORWARDED = "x-forwarded-for";
const publicUrl = process.env.WORKBENCH_PUBLIC_URL;
const isHttps = publicUrl?.startsWith("https://") ?? false;
const tlsService = (process.env.WORKBENCH_TLS || "off") === "off" ? null : new TlsService("tls");
const hasDomains = process.env.WORKBENCH_USER_DOMAINS === "yes";
const hubHost = hasDomains ? new URL(publicUrl).host : "";

ConfigurableProxy.prototype.targetForReq = async function (req) {
  installFilter(this);
  const match = await findTarget.call(this, req);
  req[BY_TLS] = tlsService !== null && (await tlsService.has(req.socket.remoteAddress));
  const hub = this.options.defaultTarget;
  const isHub = match && hub && new URL(match.target).origin === new URL(hub).origin;
  req[PATH] = match && !isHub ? ownPath(match.prefix, Boolean(this.hostRouting)) : null;
  return isHub && !mayReachHub(req.headers.host, req.url, hubHost) ? undefined : match;
};

ConfigurableProxy.prototype.handleProxyError = function (code, kind, req, res, error) {
  if (kind === "web" && code === 503 && req[PATH] === null) {
    this.log.error("503 %s the hub is away: %s", req.method, error?.code ?? error);
    return answerHubAway(req, res);
  }
  // the error page is the hub's, at the address of a user's server
  if (kind === "web" && !res.headersSent) {
    res.setHeader("X-Content-Type-Options", "nosniff");
    res.setHeader("X-Frame-Options", "DENY");
    res.setHeader("Cache-Control", "no-store");
  }
  return answerError.call(this, code, kind, req, res, error);
};

// the hub does not send its error page
ConfigurableProxy.prototype._handleProxyErrorDefault = (_code, _kind, req, res) => answerHubAway(req, res);

function installFilter(proxy) {
  if (filtered.has(proxy)) return;
  filtered.add(proxy);
  const filter = (answer, req) => {
    if (req[PATH]) filterHeaders(answer.headers, req[PATH], { isOwnHost: proxy.hostRouting, isHttps });
    passStream(answer.headers);
  };
  proxy.proxy.on("proxyRes", filter);
  // the address of the TLS service itself would hide the client's
  proxy.proxy.on("start", (req) => {
    if (req[BY_TLS]) req.headers[FORWARDED] = withoutLastAddress(req.headers[FORWARDED]);
  });
  // http-proxy-3 leaves an answer open whose server died: a browser would wait for the next event of its stream without end
  proxy.proxy.on("proxyRes", (answer, _req, res) => {
    answer.on("close", () => answer.complete || res.destroy());
  });
  const check = new SocketCheck(Number(process.env.SOCKET_CHECK_MS ?? PERIOD_MS)); // tests wait less
  // the answer to a websocket's handshake sets cookies too
  proxy.proxy.on("proxyReqWs", (request, req, socket, options) => {
    if (req[PATH]) check.watch(socket, req, options.target, req[PATH]);
    for (const event of ["upgrade", "response"]) {
      request.prependListener(event, (answer) => filter(answer, req));
    }
  });
}

const basePath = publicUrl ? new URL(publicUrl).pathname.replace(/\/+$/, "") : "";
process.argv.push(`--error-target=http://hub:8081${basePath}/hub/error`);
if (hasDomains) process.argv.push("--host-routing");
await import("configurable-http-proxy/bin/configurable-http-proxy");
