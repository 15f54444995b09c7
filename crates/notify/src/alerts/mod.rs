//! Alerts. The code that sees a cause raises the alert; the database lets each be raised once, together with its
//! deliveries. The senders here deliver to each receiver independently.

mod budget;
mod burn;
mod deliver;
mod message;
mod notice;
mod raise;
mod raised;
mod receiver;
mod threshold;
mod trial;
mod trouble;

use self::raised::Raised;
pub use self::{
    budget::tell_of_budgets,
    burn::{Burn, tell_of_burn},
    deliver::deliver,
    notice::{Notices, tell_of_notices},
    receiver::{BadReceiver, Receiver, ReceiverSpec},
    trial::{NoReceiver, try_out},
    trouble::{tell_of_outages, tell_of_troubles},
};
