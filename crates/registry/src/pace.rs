//! Bodies that must not dawdle.
//!
//! A server that sends a byte now and then is never silent, and would keep us for ever. So a body has to bring
//! [`Timeouts::slowest`] bytes a second while we wait for it, on average over [`Timeouts::read`]. The time that the caller takes between two
//! reads does not count. What comes too slowly fails like a connection that broke: it is tried again, a bounded number of times.
//!
//! [`Timeouts::slowest`]: crate::Timeouts::slowest
//! [`Timeouts::read`]: crate::Timeouts::read

use std::io::{self, Read};
use std::time::{Duration, Instant};

use ureq::BodyReader;

use crate::options::Timeouts;

/// The body of a response.
pub(crate) struct Body<R = BodyReader<'static>> {
    inner: R,
    /// How long is waited before the bytes are counted, and how many it takes.
    window: Duration,
    least: u64,
    waited: Duration,
    came: u64,
}

impl<R: Read> Body<R> {
    pub(crate) fn new(inner: R, timeouts: &Timeouts) -> Body<R> {
        let least = (timeouts.slowest as f64 * timeouts.read.as_secs_f64()) as u64;
        Body { inner, window: timeouts.read, least, waited: Duration::ZERO, came: 0 }
    }

    /// Counts what a read brought, and the time that it took.
    fn count(&mut self, bytes: usize, took: Duration) -> io::Result<()> {
        self.waited += took;
        self.came += bytes as u64;
        if self.waited < self.window {
            return Ok(());
        }
        let slow = self.came < self.least;
        (self.waited, self.came) = (Duration::ZERO, 0);
        match slow {
            true => Err(io::Error::new(io::ErrorKind::TimedOut, "it sends too slowly")),
            false => Ok(()),
        }
    }
}

impl<R: Read> Read for Body<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let began = Instant::now();
        let n = self.inner.read(buf)?;
        // At the end nobody waits any more.
        if n > 0 {
            self.count(n, began.elapsed())?;
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_while_somebody_waits() {
        let second = Duration::from_secs(1);
        let timeouts = Timeouts { read: 10 * second, slowest: 100, ..Timeouts::default() };
        let body = || Body::new(io::empty(), &timeouts);
        let mut enough = body();
        for _ in 0..100 {
            enough.count(100, second).unwrap();
        }
        let mut slow = body();
        for _ in 0..9 {
            slow.count(99, second).unwrap();
        }
        assert_eq!(slow.count(99, second).unwrap_err().kind(), io::ErrorKind::TimedOut);
        // What came fast once is no credit for later.
        let mut drying = body();
        drying.count(1 << 30, 10 * second).unwrap();
        assert!(drying.count(999, 10 * second).is_err());
    }
}
