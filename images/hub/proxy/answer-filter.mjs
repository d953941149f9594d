// Answer filter: removes from an answer's headers what reaches beyond the path of one user's server.
// It changes headers only: bodies stream through, and bytes of websockets are untouched.

// Headers by which one answer changes a browser's behaviour for the whole origin.
const ORIGIN_WIDE = [
  "service-worker-allowed", // a service worker for a path outside its own folder
  "clear-site-data", // logs the visitor out of everything
  "cross-origin-opener-policy", // the same policy as the hub's pages would keep a handle on their windows
  "strict-transport-security",
  "alt-svc", // sends later requests of the origin to another port
  "nel", // reports each request of the origin, with its address
  "report-to",
  "origin-agent-cluster",
  "accept-ch",
  "critical-ch",
  "use-as-dictionary",
  "set-login",
  "sec-session-registration",
  "secure-session-registration",
  "x-jupyterhub-version",
  "server",
];

// A browser ignores a longer attribute, and then takes the path of the request.
const MAX_ATTRIBUTE_LENGTH = 1024;

/** Return the path of the server behind a route: the route without its host, where hosts are routed. */
export function ownPath(prefix, isHostRouted) {
  const path = isHostRouted ? prefix.replace(/^\/[^/]*/, "") : prefix;
  return `${path.replace(/\/+$/, "")}/`;
}

/**
 * Return a cookie limited to `path` and to this host; null if it is meant for another path.
 *
 * With https it is Secure, because a server behind the proxy does not know of https.
 * A host of the user's own may also have `__Host-` cookies: browsers keep them to that host, and take them for "/" only.
 */
export function limitCookie(cookie, path, { isOwnHost = false, isHttps = false } = {}) {
  const [pair, ...attributes] = cookie.split(";");
  let asked = null;
  const kept = [];
  for (const attribute of attributes) {
    const [name, ...value] = attribute.split("=");
    const key = name.trim().toLowerCase();
    if (key === "path") asked = value.join("=").trim();
    else if (key !== "domain") kept.push(attribute);
  }
  if (isOwnHost && asked === "/" && pair.trimStart().startsWith("__Host-")) path = "/";
  const limited = asked === null ? encodeURI(path) : asked;
  if (!isWithin(limited, path) || limited.length > MAX_ATTRIBUTE_LENGTH) return null;
  if (isHttps && !kept.some((attribute) => attribute.trim().toLowerCase() === "secure")) kept.push(" Secure");
  return [pair, ...kept, ` Path=${limited}`].join(";");
}

/** Limit the headers of an answer, whose names are in lower case, to the path of its server. */
export function filterHeaders(headers, path, origin = {}) {
  for (const name of ORIGIN_WIDE) delete headers[name];
  if (headers["set-cookie"] !== undefined) {
    const cookies = [headers["set-cookie"]].flat();
    const limited = cookies.map((cookie) => limitCookie(cookie, path, origin)).filter((one) => one !== null);
    if (limited.length > 0) headers["set-cookie"] = limited;
    else delete headers["set-cookie"];
  }
  headers["x-content-type-options"] ??= "nosniff";
}

/** Mark an event stream, so that a proxy before this one, such as nginx, passes it on as it comes. */
export function passStream(headers) {
  if (/^text\/event-stream\b/i.test(headers["content-type"] ?? "")) headers["x-accel-buffering"] = "no";
}

function isWithin(asked, path) {
  if (!asked.startsWith("/")) return false; // a browser then takes the path of the request
  let decoded;
  try {
    decoded = decodeURIComponent(asked);
  } catch {
    return false;
  }
  return `${decoded.replace(/\/$/, "")}/`.startsWith(path);
}
