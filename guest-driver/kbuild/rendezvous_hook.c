// SPDX-License-Identifier: GPL-2.0-only
/*
 * Rendezvous: holds a poll of tsnic's receive queue at the entry of napi_complete_done(), when the
 * device requests it, until the device releases it (docs/interface.md, "Rendezvous"). An ftrace
 * hook, so the driver under test is the driver that runs without it.
 *
 * The poll that is held owns NAPI_STATE_SCHED, so its interface, page and queue stay; taking the
 * link down or removing the device waits for it, at most bound_ms. This module uses symbols of
 * tsnic, so tsnic cannot be unloaded before it.
 */
#include <linux/atomic.h>
#include <linux/ftrace.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/timekeeping.h>

#include "ablation.h"
#include "hook.h"
#include "tsnic.h"

static unsigned int bound_ms = 500;
module_param(bound_ms, uint, 0644);
MODULE_PARM_DESC(bound_ms, "longest wait at a rendezvous, milliseconds");

static atomic_t released = ATOMIC_INIT(0);
static atomic_t gave_up = ATOMIC_INIT(0);
static atomic_t arrived = ATOMIC_INIT(0);

module_param_cb(arrived, &counter_ops, &arrived, 0444);
MODULE_PARM_DESC(arrived,
		 "polls that have arrived at a rendezvous: one more than released and gave_up while "
		 "one is there");
module_param_cb(released, &counter_ops, &released, 0444);
MODULE_PARM_DESC(released, "polls that the device released");
module_param_cb(gave_up, &counter_ops, &gave_up, 0444);
MODULE_PARM_DESC(gave_up, "polls that went on after bound_ms");

static void notrace wait_at_point(struct napi_struct *napi, const struct tsnic_rendezvous *m)
{
	u32 number = atomic_inc_return(&arrived);
	u64 end = ktime_get_mono_fast_ns() + (u64)READ_ONCE(bound_ms) * NSEC_PER_MSEC;

	WRITE_ONCE(*m->point, m->before_complete);
	/* The device that sees `arrived` sees `point`. */
	smp_store_release(m->arrived, number);
	tsnic_rendezvous_kick(napi);
	/*
	 * Acquire: what the device published before the release is visible to what the poll does
	 * next.
	 */
	while (smp_load_acquire(m->released) != number) {
		if (ktime_get_mono_fast_ns() >= end) {
			atomic_inc(&gave_up);
			return;
		}
		cpu_relax();
	}
	atomic_inc(&released);
}

/*
 * Bottom halves off, in softirq, the NAPI's kernel thread, or (a busy poller's last poll) the
 * process itself. Hard interrupts as the poll has them: on.
 */
static void notrace before_complete(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
				    struct ftrace_regs *fregs)
{
	struct pt_regs *regs = ftrace_get_regs(fregs);
	struct napi_struct *napi;
	struct tsnic_rendezvous m;

	if (!regs)
		return;
	napi = (struct napi_struct *)regs_get_kernel_argument(regs, 0);
	/*
	 * While a busy poller or netpoll is in, napi_complete_done() releases nothing; the window
	 * is the last poll.
	 */
	if (READ_ONCE(napi->state) & (NAPIF_STATE_IN_BUSY_POLL | NAPIF_STATE_NPSVC))
		return;
	if (!tsnic_is_rx_napi(napi))
		return;
	if (tsnic_rendezvous(napi, &m) && READ_ONCE(*m.requested) == m.before_complete)
		wait_at_point(napi, &m);
	ablation_before_complete(napi, (int)regs_get_kernel_argument(regs, 1));
}

static struct ftrace_ops complete_done_hook = {
	.func = before_complete,
	.flags = FTRACE_OPS_FL_SAVE_REGS,
};

static int __init rendezvous_init(void)
{
	int err = hook(&complete_done_hook, "napi_complete_done");

	if (!err)
		ablation_init();
	return err;
}

static void __exit rendezvous_exit(void)
{
	ablation_exit();
	unhook(&complete_done_hook);
}

module_init(rendezvous_init);
module_exit(rendezvous_exit);
MODULE_DESCRIPTION("tsnic test: rendezvous at napi_complete_done()");
MODULE_AUTHOR("The tsnic authors");
MODULE_LICENSE("GPL");
