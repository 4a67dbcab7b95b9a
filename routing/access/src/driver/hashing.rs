//! Checks of passwords, on threads of their own: a bounded number at a time, and a bounded number that wait.

use std::sync::Arc;

use event::{Reject, RejectKind};
use tokio::sync::Semaphore;

use crate::options::Options;
use crate::passwords::Users;

/// The place where passwords are checked.
pub(super) struct Hashing {
    /// Checks that run.
    threads: Arc<Semaphore>,
    /// Checks that run or wait.
    places: Semaphore,
}

impl Hashing {
    pub(super) fn new(options: &Options) -> Self {
        let half = std::thread::available_parallelism().map_or(1, |all| all.get().div_ceil(2));
        let threads = match options.hash_threads {
            0 => half,
            threads => usize::from(threads),
        };
        let places = usize::try_from(options.hash_queue).unwrap_or(usize::MAX >> 4).saturating_add(threads);
        Self { threads: Arc::new(Semaphore::new(threads)), places: Semaphore::new(places) }
    }

    /// Checks a password; `may_try` is asked when its turn comes, before the work. Cancel-safe: dropped, a check that
    /// runs goes on and holds its place.
    pub(super) async fn verify(
        &self,
        users: &Arc<Users>,
        user: &str,
        password: &[u8],
        may_try: impl Fn() -> Result<(), Reject>,
    ) -> Result<Option<Arc<str>>, Reject> {
        may_try()?;
        let busy = || Reject::new(RejectKind::Busy, "too many passwords wait to be checked; try again later");
        let _place = self.places.try_acquire().map_err(|_| busy())?;
        let turn = Arc::clone(&self.threads).acquire_owned().await.map_err(|_| Reject::closed())?;
        may_try()?;
        let (users, user, password) = (Arc::clone(users), user.to_owned(), password.to_vec());
        let start = std::time::Instant::now();
        let check = tokio::task::spawn_blocking(move || {
            let found = users.verify(&user, &password);
            drop(turn);
            found
        });
        let found = check.await.map_err(|_| Reject::closed())?;
        metrics::histogram!("weft_access_check_seconds").record(start.elapsed().as_secs_f64());
        Ok(found)
    }
}
