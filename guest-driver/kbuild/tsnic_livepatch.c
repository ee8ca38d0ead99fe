// SPDX-License-Identifier: GPL-2.0-only
/*
 * Gives the running kernel the napi_schedule_prep() that Linux had before 4.11: when
 * NAPI_STATE_SCHED is owned, no trace of the call is left. For an A/B in which the driver does not
 * change at all.
 *
 * What is replaced is calls through the symbol. Copies that the compiler has inlined within
 * net/core/dev.c stay as they are. All calls in modules go through the symbol: not only tsnic's
 * interrupt handler, but its refill timer and its other napi_schedule() calls too, and those of
 * every other driver.
 */
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/netdevice.h>

static bool napi_schedule_prep_before_4_11(struct napi_struct *napi)
{
	/*
	 * DISABLE first: the other order would take SCHED with nobody to release it, and
	 * napi_disable() would wait for ever.
	 */
	return !napi_disable_pending(napi) && !test_and_set_bit(NAPI_STATE_SCHED, &napi->state);
}

static struct klp_func functions[] = {
	{ .old_name = "napi_schedule_prep", .new_func = napi_schedule_prep_before_4_11 },
	{},
};

static struct klp_object objects[] = {
	{ .name = NULL /* vmlinux */, .funcs = functions },
	{},
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

static int __init livepatch_init(void)
{
	return klp_enable_patch(&patch);
}

/* Only reached when the patch is disabled and its transition is over. */
static void __exit livepatch_exit(void)
{
}

module_init(livepatch_init);
module_exit(livepatch_exit);
MODULE_DESCRIPTION("tsnic test: napi_schedule_prep() as before Linux 4.11");
MODULE_AUTHOR("The tsnic authors");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
