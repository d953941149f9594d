/**
 * Stream: the WebSocket to the server, open while the page is visible and closed while it is hidden.
 *
 * A lost or silent socket is replaced after a pause that doubles up to half a minute.
 * An invalid message is ignored, with one warning on the console.
 */
import { Connection } from './model';
import { PanelMessage, parseMessage } from './message';

const MIN_PAUSE_MS = 1000;
const MAX_PAUSE_MS = 30000;

/** A socket without a message for this long is replaced. */
const SILENCE_MS = 15000;

export interface StreamOptions {
  url: string;
  WebSocket: typeof WebSocket;
  page: Pick<Document, 'hidden' | 'addEventListener' | 'removeEventListener'>;
  onMessage: (message: PanelMessage) => void;
  onConnection: (connection: Connection) => void;
}

export interface ServerAddress {
  wsUrl: string;
  token: string;
  appendToken: boolean;
}

/** Return the stream's URL on the server of `settings` (JupyterLab's server settings fit). */
export function streamUrl(settings: ServerAddress): string {
  const url = `${settings.wsUrl.replace(/\/$/, '')}/gpu-panel/stream`;
  const hasToken = settings.appendToken && settings.token !== '';
  return hasToken ? `${url}?token=${encodeURIComponent(settings.token)}` : url;
}

export class Stream {
  private _hasWarned = false;
  private _pause_ms = MIN_PAUSE_MS;
  private _socket: WebSocket | null = null;
  private _timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly _options: StreamOptions) {
    _options.page.addEventListener('visibilitychange', this._onVisibility);
    this._onVisibility();
  }

  /** Close the socket for good. */
  dispose(): void {
    this._options.page.removeEventListener('visibilitychange', this._onVisibility);
    this._drop();
  }

  private _onVisibility = (): void => {
    if (this._options.page.hidden) {
      this._drop();
      this._options.onConnection('standby');
    } else if (this._socket === null) {
      this._pause_ms = MIN_PAUSE_MS;
      this._options.onConnection('connecting');
      this._connect();
    }
  };

  private _connect(): void {
    this._drop();
    const socket = new this._options.WebSocket(this._options.url);
    socket.onmessage = event => this._onMessage(String(event.data));
    socket.onclose = () => this._retry();
    this._socket = socket;
    this._expectMessage();
  }

  private _onMessage(text: string): void {
    this._expectMessage();
    let message: PanelMessage;
    try {
      message = parseMessage(text);
    } catch (error) {
      this._warnOnce(error);
      return;
    }
    this._pause_ms = MIN_PAUSE_MS;
    this._options.onConnection('live');
    this._options.onMessage(message);
  }

  private _expectMessage(): void {
    clearTimeout(this._timer);
    this._timer = setTimeout(() => this._retry(), SILENCE_MS);
  }

  private _retry(): void {
    this._drop();
    this._options.onConnection('lost');
    // jitter spreads the reconnects of a team's tabs
    const pause_ms = this._pause_ms * (0.75 + Math.random() / 2);
    this._pause_ms = Math.min(2 * this._pause_ms, MAX_PAUSE_MS);
    this._timer = setTimeout(() => this._connect(), pause_ms);
  }

  private _drop(): void {
    clearTimeout(this._timer);
    if (this._socket !== null) {
      this._socket.onclose = null;
      this._socket.onmessage = null;
      this._socket.close();
      this._socket = null;
    }
  }

  private _warnOnce(error: unknown): void {
    if (!this._hasWarned) {
      this._hasWarned = true;
      console.warn('GPU panel: ignoring invalid messages.', error);
    }
  }
}
