// Lines of text that both sections show: what to type, what is wrong, what was done.

import * as React from 'react';

import type { Trouble } from './api';
import type { Doing } from './doing';
import { focusRow } from './rows';
import { useStore } from './store';

const QUIET = 300; // ms until it is said that something is asked
const STANDS = 20_000; // ms that a notice stands

/** What to type, one line of code a line. */
export function Empty(props: { title: string; code: string }): React.ReactElement {
  return (
    <div className="mlnb-side-empty">
      <p>{props.title}</p>
      <pre>{props.code}</pre>
    </div>
  );
}

export function TroubleLine(props: { trouble: Pick<Trouble, 'message' | 'code'> }): React.ReactElement {
  return (
    <p className="mlnb-side-line mlnb-side-trouble" role="status">
      {props.trouble.message} {props.trouble.code && <code>{props.trouble.code}</code>}
    </p>
  );
}

/** Nothing at first, since most answers come at once. */
export function Looking(): React.ReactElement | null {
  const [late, setLate] = React.useState(false);
  React.useEffect(() => {
    const timer = setTimeout(() => setLate(true), QUIET);
    return () => clearTimeout(timer);
  }, []);
  return late ? <p className="mlnb-side-line">Looking…</p> : null;
}

/** What was done last; it goes by itself unless one points at it. */
export function NoticeLine(props: { doing: Doing }): React.ReactElement {
  const { doing } = props;
  const notice = useStore(doing.notice);
  const ref = React.useRef<HTMLDivElement>(null);
  React.useEffect(() => {
    const end = (): void => {
      if (!ref.current?.matches(':hover, :focus-within')) {
        doing.notice.set(null);
      }
    };
    const timer = notice ? setInterval(end, STANDS) : undefined;
    return () => clearInterval(timer);
  }, [doing, notice]);
  return (
    <div className="mlnb-side-notice" data-empty={notice === null || undefined} ref={ref}>
      <span role="status">
        <span key={notice?.number /* so that the same words are said again */}>
          {notice?.text} {notice?.code && <code>{notice.code}</code>} {notice?.more}
        </span>
      </span>
      {notice?.stopped && <Undo doing={doing} stopped={notice.stopped} />}
    </div>
  );
}

function Undo(props: { doing: Doing; stopped: Parameters<Doing['tell']>[0] }): React.ReactElement {
  const { doing, stopped } = props;
  const undo = (event: React.MouseEvent): void => {
    focusRow(event.currentTarget.closest<HTMLElement>('.mlnb-side')); // this button goes
    doing.notice.set(null);
    void doing.tell(stopped, 'start');
  };
  return (
    <button type="button" className="mlnb-side-undo" aria-label={`Undo: start ${stopped.name} again`} onClick={undo}>
      Undo
    </button>
  );
}

/** Says so where `of` cannot be drawn, and tries again with the next one. */
export class Guard extends React.Component<React.PropsWithChildren<{ of: unknown }>, { failed: unknown }> {
  override state = { failed: null };

  override componentDidCatch(): void {
    this.setState({ failed: this.props.of });
  }

  static getDerivedStateFromError(): { failed: unknown } {
    return { failed: FAILED };
  }

  override render(): React.ReactNode {
    const { failed } = this.state;
    const still = failed === FAILED || failed === this.props.of;
    return still ? <TroubleLine trouble={{ message: 'This part cannot be shown; trying again.', code: '' }} /> : this.props.children;
  }
}

const FAILED = {};
