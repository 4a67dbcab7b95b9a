//! What the log tells Prometheus. Counted once for each write, never for each record.

use event::RejectKind;

/// One write: so many records and bytes.
pub(crate) fn written(records: usize, bytes: u64) {
    metrics::counter!("weft_store_appended_records_total").increment(records as u64);
    metrics::counter!("weft_store_appended_bytes_total").increment(bytes);
    metrics::histogram!("weft_store_batch_records").record(records as f64);
}

/// One fdatasync.
pub(crate) fn synced(took: std::time::Duration) {
    metrics::counter!("weft_store_syncs_total").increment(1);
    metrics::histogram!("weft_store_sync_seconds").record(took.as_secs_f64());
}

/// Appends that were refused.
pub(crate) fn refused(kind: RejectKind, appends: usize) {
    metrics::counter!("weft_store_refused_total", "reason" => kind.as_str()).increment(appends as u64);
}

/// Records that were asked for, or passed, and are not whole.
pub(crate) fn damaged(records: usize) {
    metrics::counter!("weft_store_damaged_records_total").increment(records as u64);
}

/// A segment was freed with events that somebody waited for.
pub(crate) fn dropped(bytes: u64) {
    metrics::counter!("weft_store_dropped_bytes_total").increment(bytes);
}

/// What the log takes of the disk.
pub(crate) fn disk(segments: usize, bytes: u64) {
    metrics::gauge!("weft_store_segments").set(segments as f64);
    metrics::gauge!("weft_store_disk_bytes").set(bytes as f64);
}
