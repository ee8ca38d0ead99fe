// SPDX-License-Identifier: GPL-2.0-only
/*
 * Takes one clause of NAPI's protocol away on the running kernel, for the receive queues of tsnic
 * only (docs/napi-ablation.md): by what is done to napi_struct::state just before the kernel's own
 * function looks at it. The clauses have the names of the models' (guest-driver/napi/model,
 * ablation.rs).
 *
 * complete-ignores-missed: MISSED is cleared at the entry of napi_complete_done(). An interrupt
 * between that and the function's own transaction is still honoured.
 *
 * stop-keeps-missed: MISSED as it is at the entry of busy_poll_stop() is set again when the last
 * poll completes. Between the two nobody looks at MISSED, so this is as if it had not been cleared.
 *
 * watchdog-sets-missed: at the entry of napi_watchdog() MISSED is set if SCHED is and DISABLE is
 * not, in one transaction, which is all that napi_schedule_prep() does more than the watchdog's own
 * test.
 */
#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/ftrace.h>
#include <linux/hrtimer.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/string.h>

#include "ablation.h"
#include "hook.h"
#include "tsnic.h"

enum clause {
	NONE,
	COMPLETE_IGNORES_MISSED,
	STOP_KEEPS_MISSED,
	WATCHDOG_SETS_MISSED,
};

static const char *const names[] = {
	[NONE] = "none",
	[COMPLETE_IGNORES_MISSED] = "complete-ignores-missed",
	[STOP_KEEPS_MISSED] = "stop-keeps-missed",
	[WATCHDOG_SETS_MISSED] = "watchdog-sets-missed",
};

/*
 * A bit of napi_struct::state that no kernel uses and every transaction on the word preserves:
 * MISSED was set when busy_poll_stop() began.
 */
#define KEPT_MISSED 63
static_assert(BITS_PER_LONG == 64);

static int clause = NONE;
/* Static functions of the kernel that the compiler has left as functions. */
static bool has_busy_poll_stop;
static bool has_watchdog;

static atomic_t bent = ATOMIC_INIT(0);
static atomic_t completions = ATOMIC_INIT(0);
static atomic_t empty = ATOMIC_INIT(0);

static int clause_set(const char *value, const struct kernel_param *kp)
{
	int wanted = sysfs_match_string(names, value);

	if (wanted < 0)
		return wanted;
	if ((wanted == STOP_KEEPS_MISSED && !has_busy_poll_stop) ||
	    (wanted == WATCHDOG_SETS_MISSED && !has_watchdog))
		return -EOPNOTSUPP;
	WRITE_ONCE(clause, wanted);
	return 0;
}

static int clause_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%s\n", names[READ_ONCE(clause)]);
}

static const struct kernel_param_ops clause_ops = { .set = clause_set, .get = clause_get };
module_param_cb(ablation, &clause_ops, NULL, 0644);
MODULE_PARM_DESC(ablation,
		 "clause of the protocol that is taken away: none, complete-ignores-missed, "
		 "stop-keeps-missed, watchdog-sets-missed");

module_param_cb(bent, &counter_ops, &bent, 0444);
MODULE_PARM_DESC(bent, "times that MISSED was made another than it would have been");
module_param_cb(completions, &counter_ops, &completions, 0444);
MODULE_PARM_DESC(completions, "polls that came to napi_complete_done(), not in a busy loop");
module_param_cb(empty, &counter_ops, &empty, 0444);
MODULE_PARM_DESC(empty, "of these, those that had found nothing");

void notrace ablation_before_complete(struct napi_struct *napi, int work_done)
{
	atomic_inc(&completions);
	if (work_done == 0)
		atomic_inc(&empty);
	if (READ_ONCE(clause) == COMPLETE_IGNORES_MISSED &&
	    test_and_clear_bit(NAPI_STATE_MISSED, &napi->state))
		atomic_inc(&bent);
	if (test_and_clear_bit(KEPT_MISSED, &napi->state) &&
	    !test_and_set_bit(NAPI_STATE_MISSED, &napi->state))
		atomic_inc(&bent);
}

/* The process that busy-polls. It owns SCHED, and bottom halves are off. */
static void notrace before_busy_poll_stop(unsigned long ip, unsigned long parent,
					  struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	struct pt_regs *regs = ftrace_get_regs(fregs);
	struct napi_struct *napi;

	if (!regs || READ_ONCE(clause) != STOP_KEEPS_MISSED)
		return;
	napi = (struct napi_struct *)regs_get_kernel_argument(regs, 0);
	if (tsnic_is_rx_napi(napi) && test_bit(NAPI_STATE_MISSED, &napi->state))
		set_bit(KEPT_MISSED, &napi->state);
}

/* Hard interrupt. The NAPI is there: whoever takes it away cancels its timer first. */
static void notrace before_watchdog(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
				    struct ftrace_regs *fregs)
{
	struct pt_regs *regs = ftrace_get_regs(fregs);
	struct napi_struct *napi;
	unsigned long val;

	if (!regs || READ_ONCE(clause) != WATCHDOG_SETS_MISSED)
		return;
	napi = container_of((struct hrtimer *)regs_get_kernel_argument(regs, 0), struct napi_struct,
			    timer);
	if (!tsnic_is_rx_napi(napi))
		return;
	val = READ_ONCE(napi->state);
	do {
		if ((val & (NAPIF_STATE_SCHED | NAPIF_STATE_DISABLE)) != NAPIF_STATE_SCHED)
			return;
	} while (!try_cmpxchg(&napi->state, &val, val | NAPIF_STATE_MISSED));
	if (!(val & NAPIF_STATE_MISSED))
		atomic_inc(&bent);
}

static struct ftrace_ops busy_poll_stop_hook = {
	.func = before_busy_poll_stop,
	.flags = FTRACE_OPS_FL_SAVE_REGS,
};

static struct ftrace_ops watchdog_hook = {
	.func = before_watchdog,
	.flags = FTRACE_OPS_FL_SAVE_REGS,
};

/*
 * All hooks are there whatever the clause, so that what they cost is no difference between clauses.
 * A function that cannot be hooked is no reason to go without the rendezvous.
 */
void ablation_init(void)
{
	has_busy_poll_stop = !hook(&busy_poll_stop_hook, "busy_poll_stop");
	has_watchdog = !hook(&watchdog_hook, "napi_watchdog");
}

void ablation_exit(void)
{
	if (has_watchdog)
		unhook(&watchdog_hook);
	if (has_busy_poll_stop)
		unhook(&busy_poll_stop_hook);
}
