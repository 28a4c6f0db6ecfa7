//! A state: what the API server stores, what each party believes, and which nuisances are still to come.
//!
//! Small and flat, since a million of them are visited. Equal states are made equal (`State::tidy`): the two controllers
//! have no names, and what nobody can ever act on any more is forgotten.

use crate::objects::Image;

/// Most devices of a scenario.
pub const DEVICES: usize = 4;
/// Most rollouts.
pub const ROLLOUTS: usize = 2;
/// Controllers.
pub const CONTROLLERS: usize = 2;

/// The bit of a rollout in a set of objects.
pub fn rollout_bit(rollout: usize) -> u8 {
    1 << rollout
}

/// The bit of a device in a set of objects.
pub fn device_bit(device: usize) -> u8 {
    1 << (ROLLOUTS + device)
}

/// The contents of every object, as somebody saw them; 0 is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Objects {
    pub rollouts: [u16; ROLLOUTS],
    pub devices: [u16; DEVICES],
}

/// A watch cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cache {
    pub seen: Objects,
    /// The objects that are still the revision that was seen.
    pub fresh: u8,
}

/// A controller: a cache, and a plan whose writes are being made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Controller {
    /// The plan in hand; 0 is none.
    pub plan: u16,
    /// Its writes that are still to be made; bit 0 is the write to the rollout itself.
    pub left: u8,
    /// The objects that are still the revision that the plan was made on.
    pub fresh: u8,
    pub cache: Cache,
}

/// A device as it is, whatever its object says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Agent {
    /// What it was told last: the state that its `If-None-Match` proves.
    pub told: Image,
    pub runs: Image,
    /// Whether that came up.
    pub ok: bool,
    /// Every image that it was ever reported running well, as a set.
    pub known: u8,
    /// The instant at which it went away, plus one; 0 while it is there.
    pub away: u8,
    /// Whether it ever was away, held, or somebody's word stood against its rollout.
    pub excused: bool,
}

/// What can go wrong or be done, each so many times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nuisance {
    /// A controller forgets the plan in its hand.
    Crash,
    /// A write is made, but its answer is lost.
    LostAnswer,
    /// Figures are not written, because others just were.
    Throttle,
    /// A controller plans on an old view of rollouts, of devices, or of both.
    StalePlan,
    /// A gateway answers from an old view of rollouts, of the device, or of both.
    StalePoll,
    /// A device does not bring up what it was told.
    Failure,
    /// A device goes away.
    Absence,
    /// A person pauses.
    Pause,
    /// A person cancels.
    Cancel,
    /// A person asks for everything to go back.
    RollBack,
    /// A person acknowledges failures.
    Acknowledge,
    /// A person approves all batches.
    Approve,
    /// A person holds a device.
    Hold,
    /// A person declares another image for a device.
    Declare,
    /// A newer image is pushed.
    Push,
    /// The first push is delivered once more.
    Redelivery,
}

/// How many kinds there are.
pub const NUISANCES: usize = Nuisance::Redelivery as usize + 1;

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub stored: Objects,
    pub agents: [Agent; DEVICES],
    pub controllers: [Controller; CONTROLLERS],
    /// The gateway's cache.
    pub gateway: Cache,
    pub tick: u8,
    /// How often each nuisance may still come.
    pub left: [u8; NUISANCES],
    /// The promises that the step to this state broke.
    pub broken: u16,
}

impl State {
    pub fn left(&self, nuisance: Nuisance) -> bool {
        self.left[nuisance as usize] > 0
    }

    pub fn spend(&mut self, nuisance: Nuisance) {
        self.left[nuisance as usize] -= 1;
    }

    /// An object has a new revision.
    pub fn touch(&mut self, bit: u8) {
        for controller in &mut self.controllers {
            controller.fresh &= !bit;
            controller.cache.fresh &= !bit;
        }
        self.gateway.fresh &= !bit;
    }

    /// Forgets what makes no difference any more. `needs` tells the objects that the writes left of a plan carry a
    /// precondition on, and the writes that can't be made any more because that no longer holds.
    pub fn tidy(&mut self, needs: impl Fn(&Controller) -> (u8, u8)) {
        let keep_caches = self.left(Nuisance::StalePlan);
        for controller in &mut self.controllers {
            if controller.plan != 0 {
                // A stale precondition never holds again, so the API server's refusal may as well come now.
                let (_, refused) = needs(controller);
                controller.left = if refused & 1 == 1 { 0 } else { controller.left & !refused };
            }
            if controller.left == 0 {
                controller.plan = 0;
            }
            controller.fresh = if controller.plan == 0 { 0 } else { controller.fresh & needs(controller).0 };
            if !keep_caches {
                controller.cache = Cache::default();
            }
        }
        self.controllers.sort_unstable();
        if !self.left(Nuisance::StalePoll) {
            self.gateway = Cache::default();
        }
    }
}
