// Asks again and again while somebody looks: one request at a time, and more slowly when it fails.

import { patient, Trouble } from './api';
import { Store } from './store';

export interface State<T> {
  /** What was answered last. */
  readonly value: T | null;
  /** Why that is not from now, if it is not. */
  readonly trouble: Trouble | null;
}

const BACK_OFF = [1000, 2000, 4000, 8000, 15_000]; // ms

export class Poller<T> {
  /**
   * @param ask what is asked
   * @param every milliseconds from an answer to the next question
   */
  constructor(
    private readonly ask: (signal: AbortSignal) => Promise<T>,
    private readonly every: number
  ) {}

  readonly state = new Store<State<T>>({ value: null, trouble: null });

  /** Ask while `active`, and never otherwise. */
  setActive(active: boolean): void {
    if (active !== this._active) {
      this._active = active;
      this.again();
    }
  }

  /** Ask at once, in place of what is being asked. */
  readonly again = (): void => {
    clearTimeout(this._timer);
    this._asking?.abort();
    this._asking = null;
    if (this._active) {
      void this.turn();
    }
  };

  private async turn(): Promise<void> {
    const asking = (this._asking = new AbortController());
    const next = await this.answer(asking.signal);
    if (this._asking !== asking) {
      return; // ended, or asked anew
    }
    asking.abort(); // so that its time limit ends too
    this.state.set(next);
    this._failures = next.trouble ? this._failures + 1 : 0;
    const wait = BACK_OFF[Math.min(this._failures, BACK_OFF.length) - 1] ?? this.every;
    this._timer = window.setTimeout(() => void this.turn(), wait);
  }

  private async answer(signal: AbortSignal): Promise<State<T>> {
    try {
      return { value: await this.ask(patient(signal)), trouble: null };
    } catch (error) {
      const trouble = error instanceof Trouble ? error : new Trouble('The list cannot be shown; trying again.');
      return { value: this.state.value().value, trouble };
    }
  }

  private _asking: AbortController | null = null;
  private _timer = 0;
  private _active = false;
  private _failures = 0;
}
