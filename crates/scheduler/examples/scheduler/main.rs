//! A discrete-event simulation of the scheduler: the very code by which a claim decides (`fill`, `account`, `turns`), with
//! everything around it replaced by time that does not pass. Prints waits by lane and how evenly teams were served.
//!
//! `cargo run -p engine --example scheduler -- [--requests N] [--teams N] [--replicas N] [--slots N] [--seed N]`
//!
//! Without arguments: 10,000,000 requests of 10,000 teams on 100 replicas. The same seed gives the same figures.
//!
//! What is simplified: a claim takes 3 ms, and rings of one replica only are heard; requests that one claim grants to one team end
//! together; the parts of a limit that replicas hold move between them at once.

mod events;
mod random;
mod replica;
mod report;
mod teams;
mod world;

use std::time::Instant;

use world::{Size, World};

fn main() {
    let mut size = Size::default();
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().and_then(|value| value.replace('_', "").parse::<u64>().ok());
        let Some(value) = value.filter(|value| *value > 0 || name == "--seed") else {
            eprintln!("{name} wants a number");
            std::process::exit(2);
        };
        match name.as_str() {
            "--requests" => size.requests = value,
            "--teams" => size.teams = value as usize,
            "--replicas" => size.replicas = value as usize,
            "--slots" => size.slots = value as usize,
            "--seed" => size.seed = value,
            other => {
                eprintln!("{other} is not known; see the head of this file");
                std::process::exit(2);
            }
        }
    }
    let began = Instant::now();
    let mut world = World::new(size);
    world.run();
    world.report.print(&world.size, world.now, began.elapsed());
}

#[cfg(test)]
mod tests {
    use super::*;
    use teams::{BULK, PROD, STANDARD};

    /// Small enough for each run of the tests, so that the simulation cannot rot: prod waits for nobody, and teams share evenly.
    #[test]
    fn prod_goes_first_and_teams_share_evenly() {
        let mut world = World::new(Size { requests: 200_000, teams: 1_000, replicas: 4, slots: 64, seed: 1 });
        world.run();
        let wait = |lane| world.report.percentile(lane, 0.99);
        let (prod, standard, bulk) = (wait(PROD), wait(STANDARD), wait(BULK));
        assert!(prod < 0.5, "prod waits {prod} s");
        assert!(prod < standard && standard < bulk, "prod {prod} s, standard {standard} s, bulk {bulk} s");
        let jain = world.report.jain_min();
        assert!(jain >= 0.99, "Jain's index of the least even window is {jain}");
    }
}
