import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';

import { Connection } from '../model';
import { PanelMessage } from '../message';
import { Stream, streamUrl } from '../stream';
import { GOLDEN_TEXT } from './sample';

/** A WebSocket that the test controls. */
class FakeSocket {
  static all: FakeSocket[] = [];
  static get last(): FakeSocket {
    const socket = FakeSocket.all.at(-1);
    if (socket === undefined) {
      throw new Error('no socket was opened');
    }
    return socket;
  }

  isClosed = false;
  onclose: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;

  constructor(readonly url: string) {
    FakeSocket.all.push(this);
  }

  close(): void {
    this.isClosed = true;
  }

  send(text: string): void {
    this.onmessage?.({ data: text });
  }
}

class FakePage extends EventTarget {
  hidden = false;

  hide(hidden: boolean): void {
    this.hidden = hidden;
    this.dispatchEvent(new Event('visibilitychange'));
  }
}

describe('Stream', () => {
  let page: FakePage;
  let messages: PanelMessage[];
  let connections: Connection[];
  let warn: ReturnType<typeof jest.spyOn>;

  const open = (): Stream =>
    new Stream({
      url: 'ws://server/gpu-panel/stream',
      WebSocket: FakeSocket as unknown as typeof WebSocket,
      page,
      onMessage: message => messages.push(message),
      onConnection: connection => connections.push(connection)
    });

  /** Close the connection and return the seconds until the next one. */
  const lose = (): number => {
    const count = FakeSocket.all.length;
    FakeSocket.last.onclose?.();
    for (let seconds = 0; seconds < 100; seconds += 0.25) {
      if (FakeSocket.all.length > count) {
        return seconds;
      }
      jest.advanceTimersByTime(250);
    }
    return Infinity;
  };

  beforeEach(() => {
    jest.useFakeTimers();
    jest.spyOn(Math, 'random').mockReturnValue(0.5);
    warn = jest.spyOn(console, 'warn').mockImplementation(() => undefined);
    FakeSocket.all = [];
    page = new FakePage();
    messages = [];
    connections = [];
  });

  afterEach(() => {
    jest.useRealTimers();
    jest.restoreAllMocks();
  });

  it('forwards messages and reports a live connection', () => {
    open();
    FakeSocket.last.send(GOLDEN_TEXT);
    expect(messages).toEqual([JSON.parse(GOLDEN_TEXT)]);
    expect(connections).toEqual(['connecting', 'live']);
  });

  it('doubles its pause up to half a minute', () => {
    open();
    expect([1, 2, 3, 4, 5, 6, 7].map(lose)).toEqual([1, 2, 4, 8, 16, 30, 30]);
  });

  it('returns to a short pause after a message', () => {
    open();
    lose();
    lose();
    FakeSocket.last.send(GOLDEN_TEXT);
    expect(lose()).toBe(1);
  });

  it('replaces a silent socket', () => {
    open();
    FakeSocket.last.send(GOLDEN_TEXT);
    jest.advanceTimersByTime(14000);
    expect(FakeSocket.all).toHaveLength(1);
    jest.advanceTimersByTime(2000);
    expect(FakeSocket.last.isClosed || FakeSocket.all[0]?.isClosed).toBe(true);
    expect(connections.at(-1)).toBe('lost');
    expect(FakeSocket.all).toHaveLength(2);
  });

  it('is on standby while the page is hidden', () => {
    open();
    page.hide(true);
    expect(FakeSocket.last.isClosed).toBe(true);
    expect(connections.at(-1)).toBe('standby');
    jest.advanceTimersByTime(600000);
    expect(FakeSocket.all).toHaveLength(1);
    page.hide(false);
    expect(connections.at(-1)).toBe('connecting');
    expect(FakeSocket.all).toHaveLength(2);
  });

  it('opens no socket on a page that starts hidden', () => {
    page.hidden = true;
    open();
    jest.advanceTimersByTime(600000);
    expect(FakeSocket.all).toHaveLength(0);
    expect(connections).toEqual(['standby']);
  });

  it('reconnects at once when the page becomes visible', () => {
    open();
    FakeSocket.last.onclose?.();
    page.hide(true);
    page.hide(false);
    expect(FakeSocket.all).toHaveLength(2);
    jest.advanceTimersByTime(10000);
    expect(FakeSocket.all).toHaveLength(2);
  });

  it('ignores bad messages with one warning', () => {
    open();
    FakeSocket.last.send('{"schema": 9}');
    FakeSocket.last.send('not even JSON');
    FakeSocket.last.send(GOLDEN_TEXT);
    expect(warn).toHaveBeenCalledTimes(1);
    expect(messages).toHaveLength(1);
  });

  it('is silent after disposal', () => {
    const stream = open();
    const socket = FakeSocket.last;
    stream.dispose();
    expect(socket.isClosed).toBe(true);
    page.hide(true);
    page.hide(false);
    jest.advanceTimersByTime(600000);
    expect(FakeSocket.all).toHaveLength(1);
  });
});

describe('streamUrl', () => {
  it.each([
    [{ wsUrl: 'ws://a/user/b/', token: '', appendToken: true }, 'ws://a/user/b/gpu-panel/stream'],
    [{ wsUrl: 'ws://a/', token: 's&t', appendToken: true }, 'ws://a/gpu-panel/stream?token=s%26t'],
    [{ wsUrl: 'ws://a', token: 'st', appendToken: false }, 'ws://a/gpu-panel/stream']
  ])('%j', (address, url) => {
    expect(streamUrl(address)).toBe(url);
  });
});
