// A value that components follow.

import * as React from 'react';

import { keep } from './keeping';

export class Store<T> {
  constructor(private _value: T) {}

  readonly value = (): T => this._value;

  readonly subscribe = (heard: () => void): (() => void) => {
    this._heard.add(heard);
    return () => void this._heard.delete(heard);
  };

  /** Set it; parts that equal what was there stay the same objects. */
  set(value: T): void {
    const kept = keep(this._value, value);
    if (!Object.is(kept, this._value)) {
      this._value = kept;
      this._heard.forEach(heard => heard());
    }
  }

  private _heard = new Set<() => void>();
}

/** The value of a store, in a component that is drawn again when it changes. */
export function useStore<T>(store: Store<T>): T {
  return React.useSyncExternalStore(store.subscribe, store.value);
}
