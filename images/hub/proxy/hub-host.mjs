// Hub host: keeps the hub's pages and API to its own host name, where each user's servers have one of their own.
// Without it, a page of a user's server reads and fills in the hub's pages at the address of that server.

import { isIP } from "node:net";

/** Return the host name of a Host header or of a URL's host, in lower case and without the port. */
export function hostName(host) {
  return (host ?? "").toLowerCase().replace(/:\d*$/, "").replace(/^\[|\]$/g, "");
}

/** Return whether a request that no user's server answers may go to the hub. */
export function mayReachHub(host, path, hubHost) {
  const name = hostName(host);
  // as the proxy forwards it: "/user/../hub/login" is the hub's log-in page
  const { pathname } = new URL(path, "http://any.test");
  // no user's server has an address for a name; the hub redirects requests for a server that does not run
  return !hubHost || name === hostName(hubHost) || isIP(name) !== 0 || name === "localhost" || pathname.startsWith("/user/");
}
