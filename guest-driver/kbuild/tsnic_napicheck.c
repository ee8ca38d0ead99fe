// SPDX-License-Identifier: GPL-2.0-only
/*
 * Drives this kernel's own NAPI functions on a napi_struct that belongs to no interface, one step
 * at a time, and tells what each step did: so that a model of the protocol (guest-driver/napi) can
 * be compared with the kernel (testvm napi).
 *
 * A write to /dev/tsnic_napicheck is an array of struct step, carried out in order until one is
 * refused; a read at offset 0 is the array of struct seen of the last write. The same two structs
 * are in testvm/guest-agent/src/napi/step.rs.
 *
 * A step runs with bottom halves off (but for napi_disable() and napi_enable(), which may sleep),
 * and whatever it queued is taken off the queue before they are on again. So no poll ever runs but
 * those that the step itself asks for, and all that the protocol's other half would do is done by
 * later steps. Nobody else knows this NAPI: its device is never registered.
 */
#include <linux/bottom_half.h>
#include <linux/etherdevice.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/sched.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <net/busy_poll.h>

#if defined(CONFIG_NET_RX_BUSY_POLL) && LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0)

/* Where the settings are: in 6.13 they moved from the device to the NAPI, GRO's state in 6.15. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
#define SETTINGS_OF(dev, napi) (napi)
#define defer_setting defer_hard_irqs
#else
#define SETTINGS_OF(dev, napi) (dev)
#define defer_setting napi_defer_hard_irqs
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0)
#define GRO_BITMASK(napi) ((napi)->gro.bitmask)
#else
#define GRO_BITMASK(napi) ((napi)->gro_bitmask)
#endif

enum {
	OP_LOOK,     /* Nothing. */
	OP_PREP,     /* napi_schedule_prep(): returned */
	OP_V4_10,    /* The expression that it was before Linux 4.11: returned */
	OP_SCHEDULE, /* napi_schedule() */
	OP_QUEUE,    /* __napi_schedule(); only while SCHED is set */
	OP_MISSED,   /* napi_if_scheduled_mark_missed(): returned */
	OP_COMPLETE, /* napi_complete_done(value): returned; only when it would not warn */
	OP_WATCHDOG, /* The timer's function, as if it had run out */
	/*
	 * napi_busy_loop() of one turn; flags: BUSY_PREFER; polls: what its poll and that of
	 * busy_poll_stop() do
	 */
	OP_BUSY,
	OP_DISABLE,  /* napi_disable(); only after an enable, and when it would not wait */
	OP_ENABLE,   /* napi_enable(); only after a disable, and when it would not BUG() */
	OP_SET,      /* value: bits set, one set_bit() each, as netpoll and the like do */
	OP_CLEAR,    /* value: bits cleared, one clear_bit() each */
	OP_SETTINGS, /* flags: SETTINGS_*; value: napi_defer_hard_irqs */
	OPS,
};

#define BUSY_PREFER 1

#define SETTINGS_TIMEOUT 1  /* gro_flush_timeout is not 0. */
#define SETTINGS_HELD 2	    /* GRO holds something. */
#define SETTINGS_THREADED 4 /* The device is set to threaded NAPI. */
#define SETTINGS_ALL 7

#define POLL_WORK 0x0f	     /* Packets found; as many as the budget: no completion. */
#define POLL_IRQ_BEFORE 0x10 /* napi_schedule() before the completion. */
#define POLL_IRQ_AFTER 0x20  /* napi_schedule() after the completion. */
#define POLL_HELD 0x40	     /* GRO holds some of the packets. */
#define POLL_ALL 0x7f

#define SEEN_RETURNED 1
#define SEEN_QUEUED 2	/* A poll by softirq was scheduled. */
#define SEEN_WATCHDOG 4 /* The timer is running. */
#define SEEN_HELD 8	/* GRO holds something. */
#define SEEN_STRAY 16	/* A poll ran that no step had asked for. */

#define SEEN_POLL_COMPLETED 1 /* napi_complete_done() returned true. */
#define SEEN_POLL_WATCHDOG 2  /* The timer was running at its beginning. */

#define POLLS 2
#define BUDGET 8
#define MAX_STEPS 1024

/* Never runs out while a check runs; and would be harmless, as a bare OP_WATCHDOG. */
#define TIMEOUT_NS (3600 * (unsigned long)NSEC_PER_SEC)

/* What other parts of the kernel than the functions above set or clear. */
#define SETTABLE                                                                      \
	(NAPIF_STATE_DISABLE | NAPIF_STATE_NPSVC | NAPIF_STATE_IN_BUSY_POLL |         \
	 NAPIF_STATE_PREFER_BUSY_POLL | NAPIF_STATE_THREADED)

struct step {
	u8 op;
	u8 flags;
	u16 value;
	u16 polls[POLLS];
};

struct seen {
	/* The state word after the step, and at the beginning of each poll. */
	u64 word;
	u64 poll_word[POLLS];
	/* napi_struct::defer_hard_irqs_count after the step. */
	u32 deferrals;
	u8 seen;
	u8 polls;
	u8 poll_seen[POLLS];
};

static struct net_device *dev;
static struct napi_struct *napi;
/* The state word of a disabled NAPI. */
static unsigned long disabled;
/* napi_enable() was called last. Since 6.14 it, and not netif_napi_add(), gives the NAPI its id. */
static bool enabled;

/* One program at a time, and one thread of it. */
static unsigned long opened;
static DEFINE_MUTEX(lock);
static struct step steps[MAX_STEPS];
static struct seen results[MAX_STEPS];
static size_t done;

/* The step that is running, for its polls; NULL: none is. */
static const struct step *now;
static struct seen *seen;
static bool stray;

static int check_poll(struct napi_struct *n, int budget)
{
	unsigned int i = now ? seen->polls : POLLS;
	int work;

	if (i >= POLLS) {
		stray = true;
		napi_complete_done(n, 0);
		return 0;
	}
	seen->polls++;
	seen->poll_word[i] = READ_ONCE(n->state);
	if (hrtimer_active(&n->timer))
		seen->poll_seen[i] |= SEEN_POLL_WATCHDOG;
	work = now->polls[i] & POLL_WORK;
	if (now->polls[i] & POLL_HELD)
		GRO_BITMASK(n) = 1;
	if (now->polls[i] & POLL_IRQ_BEFORE)
		napi_schedule(n);
	if (work < budget) {
		if (napi_complete_done(n, work))
			seen->poll_seen[i] |= SEEN_POLL_COMPLETED;
		if (now->polls[i] & POLL_IRQ_AFTER)
			napi_schedule(n);
	}
	return work;
}

static bool before_4_11(void)
{
	return !napi_disable_pending(napi) && !test_and_set_bit(NAPI_STATE_SCHED, &napi->state);
}

static void watchdog(void)
{
	unsigned long flags;

	hrtimer_cancel(&napi->timer);
	local_irq_save(flags);
	napi->timer.function(&napi->timer);
	local_irq_restore(flags);
}

static void change(unsigned long mask, bool set)
{
	unsigned int bit;

	for_each_set_bit(bit, &mask, BITS_PER_LONG) {
		if (set)
			set_bit(bit, &napi->state);
		else
			clear_bit(bit, &napi->state);
	}
}

static void settings(unsigned int flags, unsigned int defer_hard_irqs)
{
	SETTINGS_OF(dev, napi)->gro_flush_timeout = flags & SETTINGS_TIMEOUT ? TIMEOUT_NS : 0;
	SETTINGS_OF(dev, napi)->defer_setting = defer_hard_irqs;
	dev->threaded = !!(flags & SETTINGS_THREADED);
	/*
	 * Only the kernel's note that the first of GRO's lists is not empty: flushing it finds
	 * nothing, and removes the note.
	 */
	GRO_BITMASK(napi) = flags & SETTINGS_HELD ? 1 : 0;
}

/* Takes the NAPI off this CPU's queue. Bottom halves off since it was put there. */
static bool unqueue(void)
{
	unsigned long flags;
	bool queued;

	local_irq_save(flags);
	queued = !list_empty(&napi->poll_list);
	list_del_init(&napi->poll_list);
	local_irq_restore(flags);
	return queued;
}

/* Nothing in it that means nothing, or that could not be told from another step. */
static bool well_formed(const struct step *s)
{
	unsigned int i;

	if (s->op >= OPS)
		return false;
	if (s->op != OP_BUSY && s->op != OP_SETTINGS && s->flags)
		return false;
	if (s->op != OP_COMPLETE && s->op != OP_SET && s->op != OP_CLEAR && s->op != OP_SETTINGS &&
	    s->value)
		return false;
	for (i = 0; i < POLLS; i++) {
		if (s->op != OP_BUSY && s->polls[i])
			return false;
		if (s->polls[i] & ~POLL_ALL || (s->polls[i] & POLL_WORK) > BUDGET)
			return false;
	}
	switch (s->op) {
	case OP_COMPLETE:
		return s->value < NAPI_POLL_WEIGHT;
	case OP_BUSY:
		return !(s->flags & ~BUSY_PREFER);
	case OP_SET:
	case OP_CLEAR:
		return !(s->value & ~SETTABLE);
	case OP_SETTINGS:
		return !(s->flags & ~SETTINGS_ALL);
	default:
		return true;
	}
}

/*
 * Whether the kernel's function may be called in this state: if not it would warn, wait for ever
 * or worse.
 */
static bool permitted(const struct step *s)
{
	unsigned long state = READ_ONCE(napi->state);

	switch (s->op) {
	case OP_QUEUE:
		return state & NAPIF_STATE_SCHED;
	case OP_ENABLE:
		return !enabled && state & NAPIF_STATE_SCHED;
	case OP_BUSY:
		return enabled;
	case OP_COMPLETE:
		return state & (NAPIF_STATE_SCHED | NAPIF_STATE_NPSVC | NAPIF_STATE_IN_BUSY_POLL);
	case OP_DISABLE:
		return enabled && !(state & (NAPIF_STATE_SCHED | NAPIF_STATE_NPSVC));
	default:
		return true;
	}
}

/* Bottom halves off. What the kernel's function returned. */
static bool carry_out(const struct step *s)
{
	switch (s->op) {
	case OP_PREP:
		return napi_schedule_prep(napi);
	case OP_V4_10:
		return before_4_11();
	case OP_SCHEDULE:
		napi_schedule(napi);
		break;
	case OP_QUEUE:
		__napi_schedule(napi);
		break;
	case OP_MISSED:
		return napi_if_scheduled_mark_missed(napi);
	case OP_COMPLETE:
		return napi_complete_done(napi, s->value);
	case OP_WATCHDOG:
		watchdog();
		break;
	case OP_BUSY:
		/*
		 * Without a function to end it, one turn; more would not be reproducible, for it
		 * gives way to other tasks.
		 */
		napi_busy_loop(napi->napi_id, NULL, NULL, s->flags & BUSY_PREFER, BUDGET);
		break;
	case OP_SET:
	case OP_CLEAR:
		change(s->value, s->op == OP_SET);
		break;
	case OP_SETTINGS:
		settings(s->flags, s->value);
		break;
	}
	return false;
}

static void run(const struct step *s, struct seen *result)
{
	bool returned = false, queued = false;

	memset(result, 0, sizeof(*result));
	if (s->op == OP_DISABLE) {
		napi_disable(napi);
		enabled = false;
	} else if (s->op == OP_ENABLE) {
		napi_enable(napi);
		enabled = true;
	} else {
		local_bh_disable();
		seen = result;
		now = s;
		returned = carry_out(s);
		now = NULL;
		queued = unqueue();
		local_bh_enable();
	}
	result->word = READ_ONCE(napi->state);
	result->deferrals = napi->defer_hard_irqs_count;
	result->seen = (returned ? SEEN_RETURNED : 0) | (queued ? SEEN_QUEUED : 0) |
		       (hrtimer_active(&napi->timer) ? SEEN_WATCHDOG : 0) | (GRO_BITMASK(napi) ? SEEN_HELD : 0) |
		       (stray ? SEEN_STRAY : 0);
}

/* The bytes of the steps that were carried out; EINVAL when that is none. */
static ssize_t check_write(struct file *file, const char __user *from, size_t size, loff_t *pos)
{
	size_t count = size / sizeof(struct step);
	ssize_t ret;

	if (!count || size % sizeof(struct step) || count > MAX_STEPS)
		return -EINVAL;
	if (mutex_lock_interruptible(&lock))
		return -ERESTARTSYS;
	done = 0;
	if (copy_from_user(steps, from, size)) {
		ret = -EFAULT;
		goto out;
	}
	/*
	 * The thread of threaded NAPI is this task. To wake it up does nothing, and since it is
	 * running, Linux 6.1 too sets SCHED_THREADED, which it does only for a thread that is not
	 * asleep.
	 */
	napi->thread = current;
	while (done < count && well_formed(&steps[done]) && permitted(&steps[done])) {
		run(&steps[done], &results[done]);
		done++;
		cond_resched();
	}
	napi->thread = NULL;
	ret = done ? (ssize_t)(done * sizeof(struct step)) : -EINVAL;
out:
	mutex_unlock(&lock);
	return ret;
}

static ssize_t check_read(struct file *file, char __user *to, size_t size, loff_t *pos)
{
	ssize_t ret;

	if (mutex_lock_interruptible(&lock))
		return -ERESTARTSYS;
	ret = simple_read_from_buffer(to, size, pos, results, done * sizeof(struct seen));
	mutex_unlock(&lock);
	return ret;
}

/* As netif_napi_add() leaves it, whatever the steps did. */
static void reset(void)
{
	if (enabled) {
		WRITE_ONCE(napi->state, disabled & ~(NAPIF_STATE_SCHED | NAPIF_STATE_NPSVC));
		napi_disable(napi);
		enabled = false;
	}
	hrtimer_cancel(&napi->timer);
	WRITE_ONCE(napi->state, disabled);
	napi->defer_hard_irqs_count = 0;
	settings(0, 0);
	stray = false;
	done = 0;
}

static int check_open(struct inode *inode, struct file *file)
{
	if (test_and_set_bit_lock(0, &opened))
		return -EBUSY;
	napi_enable(napi);
	enabled = true;
	return 0;
}

static int check_release(struct inode *inode, struct file *file)
{
	reset();
	clear_bit_unlock(0, &opened);
	return 0;
}

static const struct file_operations check_fops = {
	.owner = THIS_MODULE,
	.open = check_open,
	.release = check_release,
	.read = check_read,
	.write = check_write,
	.llseek = noop_llseek,
};

static struct miscdevice check_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "tsnic_napicheck",
	.fops = &check_fops,
	.mode = 0600,
};

static int __init napicheck_init(void)
{
	int err;

	BUILD_BUG_ON(sizeof(struct step) != 8);
	BUILD_BUG_ON(sizeof(struct seen) != 32);
	BUILD_BUG_ON(SETTABLE > U16_MAX);
	dev = alloc_etherdev(sizeof(*napi));
	if (!dev)
		return -ENOMEM;
	napi = netdev_priv(dev);
	netif_napi_add(dev, napi, check_poll);
	disabled = READ_ONCE(napi->state);
	err = misc_register(&check_device);
	if (err)
		free_netdev(dev);
	return err;
}

static void __exit napicheck_exit(void)
{
	misc_deregister(&check_device);
	free_netdev(dev);
}

#else

static int __init napicheck_init(void)
{
	pr_err("tsnic_napicheck: made for Linux 6.1 and later with busy polling, and this is another\n");
	return -EOPNOTSUPP;
}

static void __exit napicheck_exit(void)
{
}

#endif

module_init(napicheck_init);
module_exit(napicheck_exit);
MODULE_DESCRIPTION("tsnic test: this kernel's NAPI functions, step by step");
MODULE_AUTHOR("The tsnic authors");
MODULE_LICENSE("GPL");
