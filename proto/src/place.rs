//! The places of connections, counted for each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedSemaphorePermit;

/// The number of connections of each address.
pub(crate) type Counts = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// The place of a connection within the limits, released when it is dropped.
pub(crate) struct Place {
    counts: Counts,
    address: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Takes a place for an address; `None` if the address has as many as it may have.
    pub(crate) fn take(counts: &Counts, address: IpAddr, most: usize, permit: OwnedSemaphorePermit) -> Option<Self> {
        let mut taken = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Self { counts: counts.clone(), address, _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}
