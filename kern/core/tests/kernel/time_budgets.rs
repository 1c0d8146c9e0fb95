//! Budgets of CPU time: who goes on when one is used up, and what ends a task's rest.

use abi::{BUDGET_MIN, Cap, Error, Op, PERIOD_MAX, Target};
use kern_base::task::State;
use kern_core::door::entry::Interrupt;

use crate::scene::{Scene, call};
use crate::time::answer;
use crate::world::make::CONTROL;
use crate::world::{Regs, Tcb};

const BUDGET: u64 = 5_000;
const PERIOD: u64 = 50_000;

/// Sets a task's own time to a budget.
fn limit(s: &mut Scene, task: &Tcb, priority: u64, budget: u64) {
    limit_to(s, task, priority, budget, PERIOD);
}

/// Sets a task's own time to a budget and a window of another length.
fn limit_to(s: &mut Scene, task: &Tcb, priority: u64, budget: u64, period: u64) {
    s.w.must(0, Op::SchedConfigure, &[CONTROL, task.sc.arg(), priority, 1_000_000, budget, period]);
    s.w.run();
}

/// Lets what runs use up its budget.
fn use_up(s: &mut Scene) {
    s.w.advance(BUDGET);
    s.w.interrupt(0, Interrupt::Timer);
    s.w.run();
}

/// Lets time pass until a window that was begun before this has ended.
fn next_window(s: &mut Scene) {
    s.w.advance(PERIOD);
    s.w.interrupt(0, Interrupt::Timer);
    s.w.run();
}

fn rests(task: &Tcb) -> bool {
    task.state() == State::Exhausted
}

/// A task with a budget that has used it up, and one of lower priority that runs now.
fn spent() -> (Scene, Tcb, Tcb) {
    let mut s = Scene::new(1);
    let (task, _) = s.running(0, 20);
    limit(&mut s, &task, 20, BUDGET);
    let (low, _) = s.running(0, 5);
    assert!(s.w.runs(0, &task));
    use_up(&mut s);
    assert!(rests(&task) && s.w.runs(0, &low), "its budget is used up");
    (s, task, low)
}

#[test]
fn who_has_used_up_its_budget_rests_until_the_next_window() {
    let (mut s, task, low) = spent();
    for _ in 0..3 {
        next_window(&mut s);
        assert!(s.w.runs(0, &task), "a window has begun");
        use_up(&mut s);
        assert!(s.w.runs(0, &low));
    }
}

#[test]
fn a_budget_holds_without_others_and_over_many_short_runs() {
    let mut s = Scene::new(1);
    let (task, _) = s.running(0, 20);
    limit(&mut s, &task, 20, BUDGET);
    use_up(&mut s);
    assert!(s.w.current(0).is_none(), "nobody else wants the CPU: it idles");
    next_window(&mut s);
    for _ in 0..10 {
        assert!(s.w.runs(0, &task));
        s.w.advance(BUDGET / 10);
        s.w.does_and_run(&task, Regs::op(Op::Yield, &[]));
    }
    assert!(rests(&task));
}

#[test]
fn a_spent_callee_goes_on_with_the_time_of_its_next_caller() {
    let mut s = Scene::new(1);
    let (server, target) = s.server(0, 3);
    let (client, _) = s.running(0, 20);
    let (other, _) = s.running(0, 10);
    limit(&mut s, &client, 20, BUDGET);
    s.w.does_and_run(&client, call(target));
    s.w.must(0, Op::TaskSuspend, &[server.cap.arg()]);
    s.w.run();
    s.w.does_and_run(&other, call(target));
    s.w.resume(&server);
    s.w.run();
    assert!(s.w.runs(0, &server));
    use_up(&mut s);
    assert!(s.w.runs(0, &server), "on the time of the caller that waits");
    s.w.does_and_run(&server, answer());
    assert!(rests(&client), "it has its answer, and no time");
    assert!(s.w.runs(0, &server), "it serves the other");
    s.w.does_and_run(&server, answer());
    assert!(s.w.runs(0, &other));
    next_window(&mut s);
    assert!(s.w.runs(0, &client));
}

#[test]
fn a_spent_callee_goes_on_with_its_own_time() {
    let mut s = Scene::new(1);
    let (server, target) = s.server(0, 3);
    let (client, _) = s.running(0, 20);
    limit(&mut s, &client, 20, BUDGET);
    s.w.does_and_run(&client, call(target));
    use_up(&mut s);
    assert!(s.w.runs(0, &server), "on its own time");
    next_window(&mut s);
    s.w.does_and_run(&server, answer());
    assert!(s.w.runs(0, &client));
}

/// A server without time of its own, which rests on that of its client.
fn spent_server(deadline: Option<u64>) -> (Scene, Tcb, Tcb, Target) {
    let mut s = Scene::new(1);
    let (server, target) = s.server(0, 3);
    s.delete(server.sc);
    let (client, _) = s.running(0, 20);
    limit(&mut s, &client, 20, BUDGET);
    let at = s.w.now();
    s.w.does_and_run(&client, deadline.map_or(call(target), |after| call(target).deadline(at + after)));
    assert!(s.w.runs(0, &server));
    use_up(&mut s);
    assert!(rests(&server), "it has no other time");
    (s, server, client, target)
}

#[test]
fn a_spent_callee_without_other_time_rests_until_the_window() {
    let (mut s, server, client, _) = spent_server(None);
    next_window(&mut s);
    assert!(s.w.runs(0, &server));
    s.w.does_and_run(&server, answer());
    assert!(s.w.runs(0, &client));
}

#[test]
fn a_call_ends_at_its_deadline_though_the_callee_rests() {
    let (mut s, server, client, _) = spent_server(Some(2 * BUDGET));
    s.w.advance(2 * BUDGET);
    s.w.interrupt(0, Interrupt::Timer);
    s.w.run();
    assert!(rests(&client) && server.state() == State::Ready, "the time is the client's again");
    next_window(&mut s);
    assert!(s.w.runs(0, &client));
    assert_eq!(client.regs().error(), Some(Error::Timeout));
}

#[test]
fn a_new_caller_ends_a_callees_rest() {
    let (mut s, server, client, target) = spent_server(None);
    let (other, _) = s.running(0, 2);
    s.w.does_and_run(&other, call(target));
    assert!(s.w.runs(0, &server), "on the time of the new caller");
    s.w.does_and_run(&server, answer());
    assert!(rests(&client));
    s.w.does_and_run(&server, answer());
    assert!(s.w.runs(0, &other));
}

#[test]
fn time_that_is_destroyed_ends_its_holders_rest() {
    let (mut s, server, client, _) = spent_server(None);
    let sc = s.time(7);
    s.w.must(0, Op::SchedBind, &[sc.arg(), server.cap.arg()]);
    s.w.run();
    assert!(rests(&server) || s.w.runs(0, &server));
    s.delete(client.sc);
    assert!(s.w.runs(0, &server), "on its own time");
}

#[test]
fn a_greater_budget_ends_the_rest_and_a_smaller_one_does_not() {
    let (mut s, task, low) = spent();
    limit(&mut s, &task, 20, BUDGET);
    limit(&mut s, &task, 20, BUDGET_MIN);
    assert!(rests(&task) && s.w.runs(0, &low));
    limit(&mut s, &task, 20, 2 * BUDGET);
    assert!(s.w.runs(0, &task), "it has more now");
    use_up(&mut s);
    assert!(rests(&task));
    s.w.must(0, Op::SchedConfigure, &[CONTROL, task.sc.arg(), 20, 1_000_000]);
    s.w.run();
    assert!(s.w.runs(0, &task), "it has no budget any more");
}

#[test]
fn a_task_that_rests_can_be_suspended_resumed_and_killed() {
    let (mut s, task, low) = spent();
    s.w.must(0, Op::TaskSuspend, &[task.cap.arg()]);
    s.w.run();
    s.w.must(0, Op::TaskReadRegs, &[task.cap.arg()]);
    next_window(&mut s);
    assert!(s.w.runs(0, &low), "it is suspended");
    s.w.resume(&task);
    s.w.run();
    assert!(s.w.runs(0, &task));
    use_up(&mut s);
    s.w.must(0, Op::TaskSuspend, &[task.cap.arg()]);
    s.w.resume(&task);
    s.w.run();
    assert!(rests(&task), "its window is the same");
    s.w.must(0, Op::TaskCancel, &[task.cap.arg()]);
    s.w.run();
    assert!(rests(&task), "there is no wait to cancel");
    s.kill(&task);
    next_window(&mut s);
    assert!(s.w.runs(0, &low));
}

#[test]
fn tasks_with_budgets_take_turns_with_others() {
    let mut s = Scene::new(1);
    let (task, _) = s.running(0, 20);
    limit(&mut s, &task, 20, BUDGET);
    let (other, to_other) = s.running(0, 20);
    for _ in 0..5 {
        assert!(s.w.runs(0, &task));
        s.w.does_and_run(&task, Regs::message(Op::YieldTo, to_other, [0; 4]));
        assert!(s.w.runs(0, &other));
        s.w.does_and_run(&other, Regs::op(Op::Yield, &[]));
    }
    let note = s.w.make(0, abi::ObjType::Notification, 0);
    s.w.give(note, s.process, Cap(30));
    s.w.does_and_run(&task, Regs::op(Op::Wait, &[Cap(30).arg()]));
    s.w.does_and_run(&other, Regs::op(Op::Notify, &[Cap(30).arg(), 1]));
    s.w.does_and_run(&other, Regs::op(Op::Yield, &[]));
    assert!(s.w.runs(0, &task));
    use_up(&mut s);
    assert!(rests(&task) && s.w.runs(0, &other));
}

/// A server whose own time is used up, and which goes on with the time of a caller.
fn helped_server(period: u64) -> (Scene, Tcb, Tcb, Target) {
    let mut s = Scene::new(1);
    let (server, target) = s.running(0, 20);
    limit(&mut s, &server, 20, BUDGET);
    use_up(&mut s);
    assert!(rests(&server));
    let (client, _) = s.running(0, 10);
    limit_to(&mut s, &client, 10, BUDGET, period);
    s.w.does_and_run(&client, call(target));
    assert!(s.w.runs(0, &server), "on the time of its caller");
    (s, server, client, target)
}

#[test]
fn a_far_window_of_a_caller_keeps_no_server_from_its_own() {
    let (mut s, server, _, _) = helped_server(PERIOD_MAX);
    use_up(&mut s);
    assert!(rests(&server), "its own window begins first");
    next_window(&mut s);
    assert!(s.w.runs(0, &server));
}

#[test]
fn a_window_brings_back_the_time_on_which_a_task_rests() {
    let (mut s, server, client, _) = helped_server(2 * BUDGET);
    use_up(&mut s);
    assert!(rests(&server));
    s.w.advance(2 * BUDGET);
    s.w.interrupt(0, Interrupt::Timer);
    s.w.run();
    assert!(s.w.runs(0, &server), "the window of its caller begins first");
    assert_eq!(s.w.time_of(&client), 0, "it has lent its time");
}

/// The call that lent a server its time ends in the server's own system call: the server rests on
/// its own time in the middle of that, and then becomes ready, or waits.
#[test]
fn a_system_call_that_takes_its_callers_time_away_ends_well() {
    let mut s = Scene::new(1);
    let reply = s.w.make(0, abi::ObjType::Reply, 0);
    s.w.give(reply, s.process, Cap(30));
    let (server, to_server) = s.running(0, 20);
    limit(&mut s, &server, 20, BUDGET);
    use_up(&mut s);
    let (front, to_front) = s.server(0, 3);
    s.delete(front.sc);
    let (client, _) = s.running(0, 10);
    s.w.does_and_run(&client, call(to_front));
    s.w.does_and_run(&front, Regs::op(Op::SaveReply, &[Cap(30).arg()]));
    s.w.does_and_run(&front, call(to_server));
    assert!(s.w.runs(0, &server), "on the time of the client");
    let mut answers = Regs::message(Op::Reply, Target(0), [0; 4]);
    answers.rdi = Cap(30).arg();
    s.w.does_and_run(&server, answers);
    assert!(s.w.runs(0, &client), "it has its answer");
    assert!(rests(&server) || server.state() == State::Ready);
    next_window(&mut s);
    assert!(s.w.runs(0, &server));
}

#[test]
fn a_caller_with_time_is_found_behind_many_without() {
    let (mut s, server, _, target) = spent_server(None);
    for _ in 0..4 {
        let (poor, _) = s.running(0, 20);
        limit(&mut s, &poor, 20, BUDGET);
        s.w.does_and_run(&poor, call(target));
        assert!(s.w.runs(0, &server), "on the time of the new caller");
        use_up(&mut s);
        assert!(rests(&server));
    }
    let (rich, _) = s.running(0, 20);
    s.w.does_and_run(&rich, call(target));
    assert!(s.w.runs(0, &server), "on the time of the last");
}

#[test]
fn who_answers_and_has_no_time_goes_on_with_that_of_who_waits() {
    let (mut s, server, _, target) = helped_server(PERIOD);
    let (better, _) = s.running(0, 30);
    s.w.must(0, Op::TaskSuspend, &[better.cap.arg()]);
    s.w.run();
    s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
    s.w.must(0, Op::TaskSuspend, &[server.cap.arg()]);
    s.w.resume(&better);
    s.w.run();
    s.w.does_and_run(&better, call(target));
    s.w.resume(&server);
    s.w.run();
    assert!(s.w.runs(0, &server), "on the better caller's time, though its own is used up");
}

#[test]
fn time_of_a_kept_call_serves_when_the_other_is_used_up() {
    let mut s = Scene::new(1);
    let reply = s.w.make(0, abi::ObjType::Reply, 0);
    s.w.give(reply, s.process, Cap(30));
    let (server, target) = s.server(0, 3);
    let (kept, _) = s.running(0, 10);
    s.w.does_and_run(&kept, call(target));
    s.w.does_and_run(&server, Regs::op(Op::SaveReply, &[Cap(30).arg()]));
    s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
    let (client, _) = s.running(0, 20);
    limit(&mut s, &client, 20, BUDGET);
    s.w.does_and_run(&client, call(target));
    s.delete(server.sc);
    use_up(&mut s);
    assert!(s.w.runs(0, &server), "on the time of the caller whose call it keeps");
}

#[test]
fn a_budget_counts_on_the_cpu_of_the_callee() {
    let mut s = Scene::new(2);
    let (server, target) = s.server(1, 3);
    s.delete(server.sc);
    let (client, _) = s.running(0, 20);
    limit(&mut s, &client, 20, BUDGET);
    s.w.does_and_run(&client, call(target));
    assert!(s.w.runs(1, &server), "on the client's time");
    s.w.advance(BUDGET);
    s.w.interrupt(1, Interrupt::Timer);
    s.w.run();
    assert!(rests(&server));
    s.w.advance(PERIOD);
    s.w.interrupt(1, Interrupt::Timer);
    s.w.run();
    assert!(s.w.runs(1, &server));
    s.w.does_and_run(&server, answer());
    assert!(s.w.runs(0, &client));
    s.w.advance(BUDGET);
    s.w.interrupt(0, Interrupt::Timer);
    assert!(rests(&client), "the server has used a part of this window");
}

#[test]
fn time_that_is_used_up_can_be_bound_to_another_task() {
    let (mut s, task, low) = spent();
    s.kill(&task);
    let (heir, _) = s.task(0, 20, false);
    s.w.resume(&heir);
    s.w.must(0, Op::SchedBind, &[task.sc.arg(), heir.cap.arg()]);
    s.w.run();
    assert!(rests(&heir) && s.w.runs(0, &low), "the window is the same");
    next_window(&mut s);
    assert!(s.w.runs(0, &heir));
}

#[test]
fn wrong_budgets_are_refused() {
    let mut s = Scene::new(1);
    let sc = s.time(5);
    for (budget, period, argument) in [
        (0, 1, 4),
        (1, 0, 4),
        (BUDGET_MIN - 1, PERIOD, 4),
        (BUDGET_MIN, BUDGET_MIN - 1, 5),
        (BUDGET_MIN, PERIOD_MAX + 1, 5),
        (u64::MAX, u64::MAX, 5),
    ] {
        let args = [CONTROL, sc.arg(), 5, 1000, budget, period];
        let refused = s.w.ask(0, Op::SchedConfigure, &args).map(drop);
        assert_eq!(refused, Err((Error::BadArgument, argument)), "{budget} of {period}");
    }
    s.w.must(0, Op::SchedConfigure, &[CONTROL, sc.arg(), 5, 1000, PERIOD_MAX, PERIOD_MAX]);
    s.w.must(0, Op::SchedConfigure, &[CONTROL, sc.arg(), 5, 1000, BUDGET_MIN, BUDGET_MIN]);
}
