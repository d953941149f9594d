import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';

import { Connection } from '../model';
import { PanelMessage } from '../message';
import { Stream, streamUrl } from '../stream';
import { GOLDEN_TEXT } from './sample';

/** A WebSocket whose server is the test. */
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

  /** Lose the connection and return how long it takes to open the next, in seconds. */
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

  it('hands on what arrives and says that it is live', () => {
    open();
    FakeSocket.last.send(GOLDEN_TEXT);
    expect(messages).toEqual([JSON.parse(GOLDEN_TEXT)]);
    expect(connections).toEqual(['connecting', 'live']);
  });

  it('waits twice as long each time, up to half a minute', () => {
    open();
    expect([1, 2, 3, 4, 5, 6, 7].map(lose)).toEqual([1, 2, 4, 8, 16, 30, 30]);
  });

  it('starts with a short pause again once a message came', () => {
    open();
    lose();
    lose();
    FakeSocket.last.send(GOLDEN_TEXT);
    expect(lose()).toBe(1);
  });

  it('replaces a socket that falls silent', () => {
    open();
    FakeSocket.last.send(GOLDEN_TEXT);
    jest.advanceTimersByTime(14000);
    expect(FakeSocket.all).toHaveLength(1);
    jest.advanceTimersByTime(2000);
    expect(FakeSocket.last.isClosed || FakeSocket.all[0]?.isClosed).toBe(true);
    expect(connections.at(-1)).toBe('lost');
    expect(FakeSocket.all).toHaveLength(2);
  });

  it('stands by while the page is hidden and returns with it', () => {
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

  it('opens nothing on a page that is hidden from the start', () => {
    page.hidden = true;
    open();
    jest.advanceTimersByTime(600000);
    expect(FakeSocket.all).toHaveLength(0);
    expect(connections).toEqual(['standby']);
  });

  it('returns at once from a pause when the page comes back', () => {
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

  it('is silent once disposed', () => {
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
