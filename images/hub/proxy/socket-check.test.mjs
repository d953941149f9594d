import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import test from "node:test";
import { PERIOD_MS, SocketCheck, checkedUrl } from "./socket-check.mjs";

class Socket extends EventEmitter {
  isOpen = true;
  destroy() {
    this.isOpen = false;
    this.emit("close");
  }
}

const SERVER = "http://server:8888";
const handshake = (cookie, url = "/user/alice/terminals/websocket/1") => ({ url, headers: { cookie, origin: "http://lab" } });

test("one question for all sockets of one browser, and a refusal closes them only", async () => {
  const asked = [];
  const check = new SocketCheck(PERIOD_MS, async (group) => {
    asked.push(group.headers.cookie);
    return group.headers.cookie === "ended";
  });
  const [first, second, other, gone] = [new Socket(), new Socket(), new Socket(), new Socket()];
  check.watch(first, handshake("ended"), SERVER, "/user/alice/");
  check.watch(second, handshake("ended", "/user/alice/api/events/subscribe"), SERVER, "/user/alice/");
  check.watch(other, handshake("valid"), SERVER, "/user/alice/");
  check.watch(gone, handshake("left"), SERVER, "/user/alice/");
  gone.destroy();
  await check.check();
  assert.deepEqual(asked, ["ended", "valid"]);
  assert.deepEqual([first.isOpen, second.isOpen, other.isOpen], [false, false, true]);
  await check.check();
  assert.deepEqual(asked, ["ended", "valid", "valid"]);
});

test("a token in the address is asked about too", () => {
  assert.equal(checkedUrl(handshake("", "/user/alice/x?token=a&b=c"), SERVER, "/user/alice/"), `${SERVER}/user/alice/api/status?token=a`);
  assert.equal(checkedUrl(handshake(""), SERVER, "/user/alice/"), `${SERVER}/user/alice/api/status`);
});

test("a server that does not answer closes nothing", async () => {
  const check = new SocketCheck();
  const socket = new Socket();
  check.watch(socket, handshake("a"), "http://127.0.0.1:1", "/user/alice/");
  await check.check();
  assert.ok(socket.isOpen);
});
