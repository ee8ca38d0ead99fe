/* SPDX-License-Identifier: GPL-2.0-only */
/* For test modules: ftrace hooks, and counters as module parameters. */
#ifndef TSNIC_HOOK_H
#define TSNIC_HOOK_H

#include <linux/atomic.h>
#include <linux/ftrace.h>
#include <linux/moduleparam.h>
#include <linux/string.h>
#include <linux/sysfs.h>

/* Hooks the function of this name; -EINVAL when the kernel has none that can be hooked. */
static inline int hook(struct ftrace_ops *ops, const char *name)
{
	/* It is taken apart in place. */
	unsigned char function[64];
	int err;

	if (strscpy(function, name, sizeof(function)) < 0)
		return -EINVAL;
	err = ftrace_set_filter(ops, function, strlen(name), 1);
	if (!err)
		err = register_ftrace_function(ops);
	if (err)
		ftrace_free_filter(ops);
	return err;
}

/* Returns when no call of the hook is running any more. */
static inline void unhook(struct ftrace_ops *ops)
{
	unregister_ftrace_function(ops);
	ftrace_free_filter(ops);
}

static int counter_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%u\n", (unsigned int)atomic_read(kp->arg));
}

static const struct kernel_param_ops counter_ops = { .get = counter_get };

#endif
