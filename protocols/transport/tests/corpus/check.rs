//! What holds for any bytes as the header of the PROXY protocol: shared by the fuzz target and the replay of its corpus.

use transport::proxy::{Progress, V2_MAX, parse};

/// Feeds as the listener does: never more than was asked for.
pub(crate) fn check(data: &[u8]) {
    let mut have = 0;
    while let Ok(Progress::Need(more)) = parse(data.get(..have).unwrap_or_default()) {
        assert!(more > 0 && have + more <= 16 + V2_MAX, "{more} more after {have}");
        have += more;
        if have > data.len() {
            return;
        }
    }
}
