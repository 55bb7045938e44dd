//! What is told while a prefix is changed.

use std::sync::atomic::{AtomicU64, Ordering};

use doge::{Progress, Reporter};
use rattler::install::Transaction;
use rattler_conda_types::{PrefixRecord, RepoDataRecord};

/// Passes what is done on as progress.
pub(crate) struct Reports {
    reporter: Reporter,
    total: u64,
    done: AtomicU64,
}

impl Reports {
    pub(crate) fn new(reporter: Reporter, total: usize) -> Self {
        Self { reporter, total: total as u64, done: AtomicU64::new(0) }
    }

    fn tell(&self, done: u64) {
        self.reporter.progress(Progress { message: None, done, total: Some(self.total), bytes: false });
    }

    /// It begins.
    pub(crate) fn begin(&self) {
        self.tell(0);
    }

    /// A package was linked.
    pub(crate) fn linked(&self) {
        // Only the number matters, and it is told in no particular order.
        self.tell(self.done.fetch_add(1, Ordering::Relaxed) + 1);
    }
}

impl rattler::install::Reporter for Reports {
    fn on_transaction_start(&self, _transaction: &Transaction<PrefixRecord, RepoDataRecord>) {}

    fn on_transaction_operation_start(&self, _operation: usize) {}

    fn on_populate_cache_start(&self, _operation: usize, _record: &RepoDataRecord) -> usize {
        0
    }

    fn on_validate_start(&self, _cache_entry: usize) -> usize {
        0
    }

    fn on_validate_complete(&self, _validate_idx: usize) {}

    fn on_download_start(&self, _cache_entry: usize) -> usize {
        0
    }

    fn on_download_progress(&self, _download_idx: usize, _progress: u64, _total: Option<u64>) {}

    fn on_download_completed(&self, _download_idx: usize) {}

    fn on_populate_cache_complete(&self, _cache_entry: usize) {}

    fn on_unlink_start(&self, _operation: usize, _record: &PrefixRecord) -> usize {
        0
    }

    fn on_unlink_complete(&self, _index: usize) {}

    fn on_link_start(&self, _operation: usize, _record: &RepoDataRecord) -> usize {
        0
    }

    fn on_link_complete(&self, _index: usize) {}

    fn on_transaction_operation_complete(&self, _operation: usize) {}

    fn on_transaction_complete(&self) {}

    fn on_post_link_start(&self, package_name: &str, _script_path: &str) -> usize {
        self.reporter.output_line(format!("running the post-link script of {package_name}"));
        0
    }

    fn on_post_link_complete(&self, _index: usize, _success: bool) {}

    fn on_pre_unlink_start(&self, package_name: &str, _script_path: &str) -> usize {
        self.reporter.output_line(format!("running the pre-unlink script of {package_name}"));
        0
    }

    fn on_pre_unlink_complete(&self, _index: usize, _success: bool) {}
}
