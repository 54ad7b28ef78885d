//! A pooled connection that goes back only if all went well.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};

use crate::error::Fault;

/// A connection whose work may be cut short at any await: by a time limit, an error, or a caller that went away.
/// Unless [`Lease::give_back`] is called it is closed, and the server rolls back what was under way; nothing
/// half-done is ever handed to the next user.
pub(super) struct Lease {
    connection: Option<PoolConnection<Postgres>>,
    limit: Duration,
}

impl Lease {
    pub async fn take(pool: &PgPool, limit: Duration) -> Result<Self, Fault> {
        Ok(Self {
            connection: Some(pool.acquire().await?),
            limit,
        })
    }

    /// Gives the connection back to the pool, which pings it on the way. The pool would wait for that for ever; a
    /// server that hangs just now must not cost a place in the pool.
    pub fn give_back(mut self) {
        if let Some(mut connection) = self.connection.take() {
            tokio::spawn(tokio::time::timeout(
                self.limit,
                connection.return_to_pool(),
            ));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }
}

#[allow(
    clippy::expect_used,
    reason = "only `give_back` takes it, and consumes the lease"
)]
impl Deref for Lease {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect("a lease that is in use")
    }
}

#[allow(
    clippy::expect_used,
    reason = "only `give_back` takes it, and consumes the lease"
)]
impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("a lease that is in use")
    }
}

/// A call that works on a lease: `on_a_lease!(store, |connection| future)`. A macro, as nothing can say yet that the futures of an
/// `AsyncFn` may be sent.
macro_rules! on_a_lease {
    ($store:expr, |$connection:ident| $work:expr) => {
        $store.call(|| async {
            let mut lease = $store.lease().await?;
            let $connection: &mut sqlx::PgConnection = &mut lease;
            let done: Result<_, $crate::error::Fault> = $work.await;
            let done = done?;
            lease.give_back();
            Ok(done)
        })
    };
}

pub(super) use on_a_lease;
