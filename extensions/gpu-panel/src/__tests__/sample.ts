/** The golden sample that the server's tests read too, and small changes to it. */
import golden from '../../../../tests/contract/panel-message.json';
import { GpuReading, LeaseReading, PanelMessage, parseMessage } from '../message';

export const GOLDEN_TEXT = JSON.stringify(golden);

/** Return the golden message with `changes`. */
export function makeMessage(changes: Partial<PanelMessage> = {}): PanelMessage {
  return { ...parseMessage(GOLDEN_TEXT), ...changes };
}

/** Return the golden sample's working GPU with `changes`. */
export function makeGpu(changes: Partial<GpuReading> = {}): GpuReading {
  const gpu = makeMessage().gpus[0];
  if (gpu === undefined) {
    throw new Error('the golden sample has no GPU');
  }
  return { ...gpu, ...changes };
}

/** Return the golden sample's lease with `changes`. */
export function makeLease(changes: Partial<LeaseReading> = {}): LeaseReading {
  const { lease } = makeMessage();
  if (lease === null) {
    throw new Error('the golden sample has no lease');
  }
  return { ...lease, ...changes };
}
