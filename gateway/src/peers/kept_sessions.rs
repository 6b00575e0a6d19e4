//! The sessions of jobs that other gateways had sent when this one started: kept from its own jobs until it is known whether those gateways live.
//!
//! Whether a gateway is gone shows only after the lease. Until then a job that it sent may still run, and another job in its session would do work that
//! ends as a conflict. This module must not know how jobs are taken over.

use std::collections::HashMap;
use std::sync::Arc;

use mayfly_session::{GatewayId, OpenJobError, OpenJobs, SignOfLife};
use mayfly_storage::Version;

use crate::dispatch::{Dispatcher, Resumed};
use crate::fleet::WorkerKind;
use crate::jobs::lane_of;

/// The sessions, by the gateway that had sent a job in them.
#[derive(Default)]
pub(super) struct KeptSessions(HashMap<GatewayId, Kept>);

struct Kept {
    /// The gateway's sign when its jobs were looked at.
    sign: Option<SignOfLife>,
    _places: Vec<Resumed>,
}

impl KeptSessions {
    /// Looks at what all gateways have sent, and keeps the sessions of that. What cannot be read is not kept.
    pub(super) async fn look(
        archive: &OpenJobs,
        me: &GatewayId,
        dispatcher: &Arc<Dispatcher>,
    ) -> Result<Self, OpenJobError> {
        let mut kept = HashMap::new();
        for other in archive.gateways().await?.into_iter().filter(|other| other != me) {
            let found = archive.sign(&other).await.ok().flatten();
            let jobs = archive.of(&other).await?.into_iter().flatten();
            let sent = jobs.filter(|job| job.sent.is_some());
            let places: Vec<Resumed> = sent
                .map(|job| dispatcher.resume(WorkerKind::from(job.kind), &lane_of(&job)))
                .collect();
            if !places.is_empty() {
                let sign = found.map(|(sign, _)| sign);
                kept.insert(
                    other,
                    Kept {
                        sign,
                        _places: places,
                    },
                );
            }
        }
        Ok(Self(kept))
    }

    /// Lets go of the sessions of gateways that live, as their signs tell, and of those that have left nothing more.
    pub(super) fn update(&mut self, signs: &HashMap<GatewayId, Option<(SignOfLife, Version)>>) {
        self.0.retain(|gateway, kept| match signs.get(gateway) {
            Some(Some((sign, _))) => sign.heir.is_some() || Some(sign) == kept.sign.as_ref(),
            Some(None) => true,
            None => false,
        });
    }

    /// Lets go of the sessions of a gateway: whoever has taken its jobs over keeps them by these.
    pub(super) fn release(&mut self, gateway: &GatewayId) {
        self.0.remove(gateway);
    }
}
