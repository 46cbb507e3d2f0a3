// One Tab stop for a list of rows, and arrow keys from row to row.

import * as React from 'react';

const HEADS = '[data-head]';

/** Attach to the element around the rows, whose heads are buttons with `data-head`. */
export function useRows(): Pick<React.HTMLAttributes<HTMLElement>, 'onKeyDown' | 'onFocus' | 'onBlur'> & {
  ref: React.RefObject<HTMLDivElement>;
} {
  const ref = React.useRef<HTMLDivElement>(null);
  const place = React.useRef(0);
  const within = React.useRef(false);
  React.useLayoutEffect(() => {
    const heads = headsIn(ref.current);
    const lost = within.current && !ref.current?.contains(document.activeElement);
    place.current = Math.max(0, Math.min(place.current, heads.length - 1));
    heads.forEach((head, index) => (head.tabIndex = index === place.current ? 0 : -1));
    if (lost && document.activeElement === document.body) {
      (heads[place.current] ?? undoNear(ref.current))?.focus(); // the row that had it is gone
    }
  });
  const moveTo = (index: number): void => headsIn(ref.current)[index]?.focus();
  return {
    ref,
    onFocus: event => {
      within.current = true;
      const heads = headsIn(ref.current);
      const row = (event.target as HTMLElement).closest('[data-row]');
      const index = heads.findIndex(head => head.closest('[data-row]') === row);
      if (index >= 0) {
        place.current = index;
        heads.forEach((head, other) => (head.tabIndex = other === index ? 0 : -1));
      }
    },
    onBlur: event => {
      if (event.relatedTarget) {
        within.current = ref.current?.contains(event.relatedTarget as Node) ?? false;
      }
    },
    onKeyDown: event => {
      const head = (event.target as HTMLElement).closest<HTMLElement>(HEADS);
      const heads = headsIn(ref.current);
      const here = head ? heads.indexOf(head) : -1;
      const goal = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: heads.length - 1 }[event.key];
      const isOpen = head?.getAttribute('aria-expanded') === 'true';
      if (here < 0) {
        return;
      }
      if (goal !== undefined) {
        moveTo(goal);
      } else if ((event.key === 'ArrowRight' && !isOpen) || (event.key === 'ArrowLeft' && isOpen)) {
        head?.click();
      } else {
        return;
      }
      event.preventDefault();
      event.stopPropagation();
    }
  };
}

function headsIn(list: HTMLElement | null): HTMLElement[] {
  return list ? [...list.querySelectorAll<HTMLElement>(HEADS)] : [];
}

function undoNear(list: HTMLElement | null): HTMLElement | null {
  return list?.closest('.mlnb-side')?.querySelector<HTMLElement>('.mlnb-side-undo') ?? null;
}
