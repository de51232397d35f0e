//! Planted bugs: ways in which real systems got these protocols wrong, each one line at its place.
//!
//! `bug!(name)` is the constant `false`, and `bug!(name => wrong)` is nothing. Only `planted/core`, which compiles these same sources under
//! another name for the hunt, turns it into a question: is this the bug that the running seed has?
//! So no build of `quorate-core` can contain one, whatever features a workspace turns on, and what
//! the simulator must be able to find is a list that cannot go stale: a name that is not on it does
//! not compile.

/// What `bug!` is in every ordinary build.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub(crate) const fn never() -> bool {
    false
}

#[cfg(not(feature = "planted"))]
macro_rules! bug {
    ($name:ident) => {
        $crate::planted::never()
    };
    ($name:ident => $wrong:expr) => {};
}

#[cfg(feature = "planted")]
macro_rules! bug {
    ($name:ident) => {
        $crate::planted::is($crate::planted::Bug::$name)
    };
    ($name:ident => $wrong:expr) => {
        if bug!($name) {
            $wrong
        }
    };
}

#[cfg(feature = "planted")]
pub use list::{ALL, Bug, is, plant};

#[cfg(feature = "planted")]
#[allow(non_camel_case_types, missing_docs, reason = "each bug's sentence is its documentation")]
mod list {
    extern crate std;

    use core::cell::Cell;

    #[cfg(not(debug_assertions))]
    compile_error!(
        "planted bugs are for the hunt, which runs with debug assertions, and for nothing else"
    );

    macro_rules! bugs {
        ($($name:ident in $protocol:ident: $wrong:literal)*) => {
            /// A planted bug.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub enum Bug { $($name),* }

            /// Every bug: itself, its name, the protocol it is in, and what is wrong.
            pub static ALL: &[(Bug, &str, &str, &str)] =
                &[$((Bug::$name, stringify!($name), stringify!($protocol), $wrong)),*];
        };
    }

    std::thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug, or none, in whatever this thread runs from now on.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether this bug is planted.
    #[must_use]
    pub fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    bugs! {
        clock_follows_the_wall in hlc: "the hybrid clock goes back when the wall clock does"
        clock_forgets_what_it_saw in hlc: "the hybrid clock does not move past what it applied, so after a restart it gives out the past"
        cut_not_heeded in sigchain: "what a forked or removed author wrote above its cut still counts"
        predecessor_not_compared in sigchain: "an entry is appended whose previous hash is another entry's"
        first_fork_stays in sigchain: "a proof of a lower fork does not replace a higher one, so the order of proofs decides"
        divergence_ignored in sigchain: "chains that differ below their tips are taken for a slow sync, and nobody looks for the fork"
        fork_story_begins_late in sigchain: "the evidence of a fork starts one entry after it and proves nothing"
        links_not_compared in sigchain: "an entry of a run counts as authentic though the next one names another before it"
        signatures_not_checked in sigchain: "a batch is taken without looking at its signatures"
        second_story_dropped in sigchain: "an entry that contradicts what is held is dropped without a word, and no fork is proven"
        duplicate_applied_twice in store: "an entry that arrives twice is applied twice"
        only_one_orphan_released in orphans: "of several entries that wait for one, only the first is let go when it comes"
        orphans_without_bound in orphans: "the buffer of orphans has no quota"
        cut_leaves_orphans_waiting in orphans: "entries that wait for what was cut off wait for ever"
        citations_waited_for_for_ever in orphans: "an entry that cites what nobody has never counts"
        waivers_forgotten in orphans: "after a restart an entry that was applied without what it cites waits again"
        parked_looked_at_once in orphans: "entries from the future are looked at once more, and never again"
        counter_adds_from_zero in values: "an addition to a counter forgets what its author had added before"
        counter_reads_the_winner in values: "a counter is read as its latest write instead of the sum of everybody's"
        set_remove_beats_unseen_add in values: "removing a member of a set also removes additions that the remover had not seen"
        tombstone_dropped_at_once in merge: "a delete leaves nothing behind, so an older write that arrives later revives the key"
        tie_broken_by_arrival in merge: "of two concurrent writes the one that arrived first wins"
        equal_clocks_not_told_apart in merge: "two writes with equal clocks stand in the order of their arrival"
        cut_leaves_heads in merge: "values whose entry was cut off stay readable"
        last_writer_wins_without_history in merge: "a write replaces every other, whether it had seen it or not"
        acknowledged_before_written in node: "a write is acknowledged before its record is handed to the disk"
        shown_before_durable in node: "a new entry is pushed to others before it is durable here"
        restored_disk_trusted in node: "a node whose disk went back in time writes on at once, over its own chain"
        greeting_never_repeated in handshake: "a greeting that was lost is not repeated"
        one_peer_vouches_for_the_disk in node: "a suspect disk counts as whole as soon as one member was heard"
        tips_not_told_to_sync in node: "sync is not told what was written, and finds everybody equal"
        second_removal_ignored in membership: "a removal that leaves less of the chain changes nothing for who is removed already"
        record_position_off_by_one in log: "after a restart the next record takes the place of the last one"
        gap_outlives_its_link in gap_filling: "a peer whose link is gone is still waited for"
        gap_timer_stands_still in gap_filling: "a gap that is due is not moved on, and its timer fires for ever"
        session_never_expires in sync: "a sync session that nobody answers stays open"
        equal_if_as_many_chains in sync: "two nodes count as equal when they hold as many chains"
        last_entry_not_sent in sync: "a range is sent without its last entry"
        half_decoded_is_enough in sync: "what could be decoded of the cells is taken for the whole difference"
        backoff_without_bound in sync: "a peer with which sync fails is tried at ever longer intervals"
        stalled_transfer_kept in transfer: "pages that were never acknowledged hold the window for ever"
        window_ignored in transfer: "pages are sent as fast as they can be read, without waiting for acknowledgements"
        sent_means_arrived in transfer: "what was once put on a page is never sent again on that link"
        watch_skips_deletes in watch: "a watcher is not told that a key is gone"
        cuts_not_watched in watch: "a watcher is not told what a cut takes away or gives back"
        ping_timer_stands_still in failure_detection: "a peer that is due for a question is not asked, and the timer fires for ever"
        promised_to_lower_ballots in election: "a lower ballot is promised after a higher one"
        promised_while_bound in election: "a voter that just answered a leader promises another candidate"
        leads_past_its_lease in election: "a leader that nobody answers goes on leading"
        promise_compares_logs in election: "a voter refuses a candidate whose log is behind, though it alone reaches a quorum"
        own_log_is_enough in election: "a candidate leads with its own log, whatever the promises bring"
        quorum_of_old_members in election: "promises are counted among the members of the candidate's log, not of the one it took over"
        stopped_behind_the_disk in election: "that a leader is none any more is told once its disk has caught up"
        released_too_early in election: "a leader releases its voters while its lease still runs"
        stalled_disk_keeps_the_lead in election: "a leader whose disk hangs goes on leading, and answers nobody"
        hung_leader_stays in election: "a leader whose application says nothing goes on leading"
        any_leader_is_the_named_one in election: "a transfer counts as done whoever leads then"
        ballot_used_again in election: "a candidate campaigns with the number that it last promised"
        half_is_a_quorum in election: "half of the voters count as a quorum"
        promised_before_durable in election: "a promise is sent before it is durable"
        restart_forgets_its_answers in election: "a voter that restarts promises at once, though it may just have answered a leader"
        appended_before_durable in log_replication: "a follower answers an append before it is durable"
        any_append_truncates in log_replication: "a follower cuts its log to the end of every append, late ones too"
        committed_beyond_the_match in log_replication: "a follower believes the leader's commit for entries it has not compared"
        last_append_not_repeated in log_replication: "a lost append is only noticed by the next one"
        position_not_compared in log_replication: "entries are appended whatever stands before them"
        read_before_its_own_entry in log_replication: "a new leader answers reads before it knows what was committed"
        checkpoint_without_tail in log_replication: "a snapshot's record leaves out the entries after it, and those before are dropped with what held them"
        checkpoint_without_promise in log_replication: "a snapshot's record leaves out the ballot that was promised"
        deleted_key_matches_any_revision in registry: "a compare-and-set of a key that is gone holds, whatever revision it names"
        older_tokens_pass in registry: "a write under an older grant than the holder's is let through"
        transactions_need_no_token in registry: "a transaction's fence is not looked at"
        clock_not_in_the_snapshot in registry: "a registry that was read from a snapshot has lost the log's clock"
        token_from_a_counter_beside_the_snapshot in lock: "tokens are counted by something that a snapshot does not hold, and begin anew"
        release_frees_whoever_holds in lock: "a release by an old holder frees the lock of the next"
        higher_priority_takes_the_name in lock: "who campaigns with a higher priority takes the name from its holder"
        name_lost_before_its_holder_knows in lock: "who is asked to step down has lost the name at once"
        log_clock_is_the_leaders_own in lease: "deadlines of one leader's clock are compared with the clock of the next"
        renewal_answered_before_it_is_committed in lease: "a renewal is answered before the beat that carries it is committed"
        nobody_beats_for_the_dead in lease: "the log's clock is only told when somebody renews, so the last lease never ends"
        guard_without_room_for_drift in lease: "a holder counts on its lease's whole time, as if its clock were the leader's"
        reads_what_it_has_applied in cluster: "a leader answers reads without asking whether it still leads"
        asked_again_though_proposed in cluster: "a request that was proposed and not answered is asked for again, and happens twice"
        unavailable_though_proposed in cluster: "what was proposed and may yet happen is answered as if it never will"
        an_old_no_is_believed in cluster: "that a request was not proposed is believed of the next attempt, though it was said of the one before"
        served_as_often_as_it_comes in cluster: "a request whose message comes twice happens twice"
        compaction_passed_over_in_silence in cluster: "a watch whose place is not known any more goes on where it can"
        snapshot_of_a_later_state in cluster: "a snapshot holds what was applied after the index that it names"
        snapshot_keeps_the_tail in log_replication: "a snapshot is taken, and entries that contradict it stay"
        own_copy_counted_at_once in log_replication: "a leader counts its own copy before it is durable"
        older_ballots_counted in log_replication: "entries of an earlier leader are committed by counting them"
        two_changes_at_once in log_replication: "members are changed again before the last change is committed"
        hashes_pool in rollouts: "votes for two hashes of one version are counted together"
        older_signals_replace in rollouts: "a maintainer's older signal that arrives later replaces the newer one"
        first_of_equals_stays in rollouts: "of two signals for one moment the one that arrived first stands"
        other_networks_replace in rollouts: "a signal for another network takes the place of the one for this"
        far_future_is_taken in rollouts: "a signal from years ahead is taken, and its maintainer never heard again"
        signals_never_expire in rollouts: "signals of long ago count"
        forged_signals_count in rollouts: "the signature under a signal is not checked"
        one_short_of_a_quorum in rollouts: "a quorum is one maintainer less"
        old_quorum_is_enough in rollouts: "the old maintainers alone say who follows them"
        floor_is_ignored in rollouts: "an older version runs after a newer one"
        anything_is_taken_back in rollouts: "a rollback of one version goes below another"
        hash_is_not_compared in rollouts: "the artifact runs whatever its hash is"
        run_before_it_is_written in rollouts: "the host is asked to run before it is written down"
        unknown_is_tried_again in rollouts: "a run during which the node died is begun again"
        no_quarantine in rollouts: "an artifact that failed runs again under another version"
        deadline_is_ignored in rollouts: "a reboot begins after its deadline"
        one_more_at_a_time in rollouts: "one node of a cluster more than allowed runs at a time"
        waves_do_not_wait in rollouts: "a wave does not wait for the ones before it"
        forged_reports_count in rollouts: "the signature under a report is not checked"
        failures_are_not_counted in rollouts: "a rollout goes on however many nodes fail"
        reported_before_it_is_through in rollouts: "a failure is reported before the previous artifact is back"
    }
}
