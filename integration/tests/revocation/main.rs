//! Permission ends the moment it is withdrawn, whatever it hangs on and whatever is under way, and nothing else ends with it: each test
//! cuts some and has others that must not miss a byte.

mod grants;
mod identities;
mod load;
mod outage;
mod partition;
mod policies;
