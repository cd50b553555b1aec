//! How long a client may take for a request head, without a timer of the runtime for each request.
//!
//! hyper begins to wait before each head and ends with it. To register that with the runtime each
//! time costs a system call. Here each connection has one timer: when it goes off and a later head is
//! waited for by then, it is set to that one.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

use crate::waiting_room::Guest;

/// The timer of one connection, as hyper sees it.
#[derive(Debug, Clone)]
pub(crate) struct HeadTimer {
    waiting: Arc<Mutex<Waiting>>,
    /// Waits whenever a head is waited for.
    guest: Guest,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, Default)]
enum Waiting {
    /// Nothing: it is at a request.
    #[default]
    No,
    /// A head that is to come before this time.
    Until(Instant),
    /// A head that did not come.
    InVain,
}

/// Goes off when a head has not come in time; the connection is to be polled again then.
#[derive(Debug)]
pub(crate) struct HeadTimeout {
    timer: HeadTimer,
    /// Until it goes off, if it is set.
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl HeadTimer {
    pub(crate) fn new(guest: Guest) -> Self {
        Self { waiting: Arc::default(), guest }
    }

    /// What is to be polled beside the connection, after it.
    pub(crate) fn timeout(&self) -> HeadTimeout {
        HeadTimeout { timer: self.clone(), sleep: None }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no thread panics while it holds a time")
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    /// The runtime's time.
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        *self.waiting() = Waiting::Until(deadline);
        self.guest.wait();
        Box::pin(HeadSleep(self.clone()))
    }

    fn reset(&self, _: &mut Pin<Box<dyn Sleep>>, new_deadline: Instant) {
        *self.waiting() = Waiting::Until(new_deadline);
        self.guest.wait();
    }
}

impl HeadTimeout {
    /// Completes when a head has not come in time.
    pub(crate) async fn passed(&mut self) {
        poll_fn(|cx| self.poll_passed(cx)).await;
    }

    fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Waiting::Until(deadline) = *self.timer.waiting() else { return Poll::Pending };
            let sleep = self
                .sleep
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
            if deadline <= self.timer.now() {
                *self.timer.waiting() = Waiting::InVain;
                return Poll::Ready(());
            }
        }
    }
}

/// What hyper waits for beside the head.
struct HeadSleep(HeadTimer);

impl Future for HeadSleep {
    type Output = ();

    /// Leaves it to the [`HeadTimeout`] to have the task polled again.
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match *self.0.waiting() {
            Waiting::InVain => Poll::Ready(()),
            Waiting::No | Waiting::Until(_) => Poll::Pending,
        }
    }
}

impl Sleep for HeadSleep {}

impl Drop for HeadSleep {
    fn drop(&mut self) {
        *self.0.waiting() = Waiting::No;
        self.0.guest.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waiting_room::{Stay, WaitingRoom};

    const HEAD: Duration = Duration::from_secs(15);

    /// Waits for a head that comes after a time, and tells whether it was too late.
    async fn in_vain(timer: &HeadTimer, timeout: &mut HeadTimeout, comes_after: Duration) -> bool {
        let mut head = timer.sleep(HEAD);
        tokio::select! {
            biased;
            () = timeout.passed() => {}
            () = tokio::time::sleep(comes_after) => {}
        }
        poll_fn(|cx| Poll::Ready(head.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test(start_paused = true)]
    async fn each_head_has_the_same_time_whenever_it_is_waited_for() {
        let Stay(guest) = &WaitingRoom::new(1, Arc::default()).enter();
        let timer = HeadTimer::new(guest.clone());
        let mut timeout = timer.timeout();
        for seconds in [0, 14, 1, 14, 14] {
            assert!(!in_vain(&timer, &mut timeout, Duration::from_secs(seconds)).await);
        }
        assert!(in_vain(&timer, &mut timeout, 2 * HEAD).await);
    }
}
