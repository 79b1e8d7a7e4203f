//! The threads of training: one team for everything that a step does, so that no two sets of threads want the same cores.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use sentei_kernels::team::Team;

/// Elements that a thread takes at a time; large enough that handing them out costs nothing.
pub(crate) const CHUNK: usize = 16 * 1024;

/// One per number of threads that was asked for; those that nobody uses sleep.
static TEAMS: Mutex<Vec<Arc<Team>>> = Mutex::new(Vec::new());

/// The team of as many threads as rayon would use here.
///
/// # Errors
/// When the system refuses a thread.
pub(crate) fn team() -> io::Result<Arc<Team>> {
    let threads = rayon::current_num_threads();
    let mut kept = TEAMS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(team) = kept.iter().find(|team| team.threads() == threads) {
        return Ok(Arc::clone(team));
    }
    let team = Arc::new(Team::new(threads, false)?);
    kept.push(Arc::clone(&team));
    Ok(team)
}

/// Runs `each` once on every part, on whichever thread of the team is free; on this one alone where no thread can be had.
pub(crate) fn for_each<T: Send>(parts: Vec<T>, each: impl Fn(T) + Sync) {
    match team() {
        Ok(team) if parts.len() > 1 => sentei_kernels::training::for_each(&team, parts, each),
        _ => parts.into_iter().for_each(each),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_team_is_kept_while_the_number_of_threads_stays() {
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool(3).install(|| team().unwrap().threads()), 3);
        assert_eq!(pool(1).install(|| team().unwrap().threads()), 1);
        assert!(pool(3).install(|| Arc::ptr_eq(&team().unwrap(), &team().unwrap())));
    }
}
