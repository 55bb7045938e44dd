//! Programs that run for a call, and their end with it.
//!
//! A thread that waits for a program may be gone before it could end it, with the process. So whoever drops the future of
//! the call ends the programs.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The programs of one call. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Programs(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    running: Vec<Child>,
    is_over: bool,
}

impl Programs {
    fn locked(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn start(&self, command: &mut Command) -> io::Result<Running> {
        let mut state = self.locked();
        if state.is_over {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let child = command.spawn()?;
        let id = child.id();
        state.running.push(child);
        Ok(Running { programs: self.clone(), id })
    }

    /// Ends them when this is dropped.
    pub(crate) fn end_with_this(&self) -> impl Drop + use<> {
        struct End(Programs);
        impl Drop for End {
            fn drop(&mut self) {
                let mut state = self.0.locked();
                state.is_over = true;
                state.running.iter_mut().for_each(ask_to_end);
            }
        }
        End(self.clone())
    }
}

/// A program that ends when this is dropped.
pub(super) struct Running {
    programs: Programs,
    id: u32,
}

impl Running {
    pub(super) fn has_ended(&self) -> io::Result<Option<ExitStatus>> {
        let mut state = self.programs.locked();
        match state.running.iter_mut().find(|child| child.id() == self.id) {
            Some(child) => child.try_wait(),
            None => Ok(None),
        }
    }
}

/// How long a program may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(2);

impl Drop for Running {
    fn drop(&mut self) {
        let mut child = {
            let mut state = self.programs.locked();
            let Some(at) = state.running.iter().position(|child| child.id() == self.id) else { return };
            state.running.swap_remove(at)
        };
        ask_to_end(&mut child);
        let asked = Instant::now();
        while matches!(child.try_wait(), Ok(None)) && asked.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Git ends the program that it runs if it is asked to end, and cannot if it is killed.
fn ask_to_end(child: &mut Child) {
    // One that was waited for has no number any more.
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    #[cfg(unix)]
    if let Some(id) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        return;
    }
    let _ = child.kill();
}
