//! How far long work is, on standard error, if that is a terminal and the work takes more than a moment.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::size;

/// Work that is shorter shows nothing.
const MOMENT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(200);
const WIDTH: usize = 30;

/// A bar that is gone when it is dropped.
pub(crate) struct Progress {
    what: &'static str,
    next: Option<Instant>,
    shown: bool,
}

impl Progress {
    /// A bar for `what`, such as "reading".
    pub(crate) fn new(what: &'static str) -> Self {
        let next = std::io::stderr().is_terminal().then(|| Instant::now() + MOMENT);
        Self { what, next, shown: false }
    }

    /// A bar that is never shown: the terminal is busy with the output.
    pub(crate) fn none() -> Self {
        Self { what: "", next: None, shown: false }
    }

    /// So many bytes are done, of `all` if that is known.
    pub(crate) fn at(&mut self, done: u64, all: Option<u64>) {
        let Some(next) = self.next else { return };
        let now = Instant::now();
        if now < next {
            return;
        }
        self.next = Some(now + PAUSE);
        self.shown = true;
        write!(std::io::stderr(), "\r\x1b[K{}", line(self.what, done, all)).unwrap_or(());
    }
}

fn line(what: &str, done: u64, all: Option<u64>) -> String {
    let Some(all) = all.filter(|all| *all > 0) else { return format!("{what} {}", size(done)) };
    let done = done.min(all);
    let part = |of: u128| usize::try_from(u128::from(done) * of / u128::from(all)).unwrap_or(0);
    let full = part(WIDTH as u128);
    format!("{what} [{}{}] {} % of {}", "#".repeat(full), "-".repeat(WIDTH - full), part(100), size(all))
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            write!(std::io::stderr(), "\r\x1b[K").unwrap_or(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_bar_tells_how_far_it_is() {
        let half = line("reading", 512, Some(1024));
        assert_eq!(half, "reading [###############---------------] 50 % of 1 KiB");
        assert!(line("reading", 5000, Some(1024)).ends_with("100 % of 1 KiB"), "the log grew meanwhile");
        assert_eq!(line("reading", 2048, None), "reading 2 KiB");
    }
}
