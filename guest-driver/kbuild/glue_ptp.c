// SPDX-License-Identifier: GPL-2.0-only
/* linux/ptp_clock_kernel.h: the NIC's clock as a PTP hardware clock. */
#include <linux/ktime.h>
#include <linux/ptp_clock_kernel.h>
#include <linux/rtnetlink.h>

#include "tsnic.h"

/*
 * The callbacks: process context. RTNL keeps the queues, and has one command at a time in the
 * mailbox; the readings of the system's clock are taken inside, next to the command.
 */

static int gettimex64(struct ptp_clock_info *info, struct timespec64 *time,
		      struct ptp_system_timestamp *system)
{
	struct tsnic *nic = container_of(info, struct tsnic, ptp_info);
	u64 ns = 0;
	int err;

	rtnl_lock();
	ptp_read_system_prets(system);
	err = tsnic_clock_read(nic, &ns);
	ptp_read_system_postts(system);
	rtnl_unlock();
	*time = ns_to_timespec64(ns);
	return err;
}

static int settime64(struct ptp_clock_info *info, const struct timespec64 *time)
{
	struct tsnic *nic = container_of(info, struct tsnic, ptp_info);
	int err;

	rtnl_lock();
	err = tsnic_clock_set(nic, timespec64_to_ns(time));
	rtnl_unlock();
	return err;
}

static int adjtime(struct ptp_clock_info *info, s64 ns)
{
	struct tsnic *nic = container_of(info, struct tsnic, ptp_info);
	int err;

	rtnl_lock();
	err = tsnic_clock_step(nic, ns);
	rtnl_unlock();
	return err;
}

static int adjfine(struct ptp_clock_info *info, long rate)
{
	struct tsnic *nic = container_of(info, struct tsnic, ptp_info);
	int err;

	rtnl_lock();
	err = tsnic_clock_rate(nic, rate);
	rtnl_unlock();
	return err;
}

/* Without a clock the interface goes on. Process context, not under RTNL. */
void glue_ptp_register(struct tsnic *nic, int max_ppb)
{
	struct ptp_clock *ptp;

	nic->ptp_info = (struct ptp_clock_info){
		.owner = THIS_MODULE,
		.name = KBUILD_MODNAME,
		.max_adj = max_ppb,
		.gettimex64 = gettimex64,
		.settime64 = settime64,
		.adjtime = adjtime,
		.adjfine = adjfine,
	};
	ptp = ptp_clock_register(&nic->ptp_info, &nic->vdev->dev);
	if (IS_ERR(ptp))
		dev_warn(&nic->vdev->dev, "No PTP hardware clock: error %ld\n", PTR_ERR(ptp));
	else
		nic->ptp = ptp;
}

/* Afterwards no callback runs, nor will one. Process context, not under RTNL, which they take. */
void glue_ptp_unregister(struct tsnic *nic)
{
	if (nic->ptp)
		ptp_clock_unregister(nic->ptp);
	nic->ptp = NULL;
}

int glue_ptp_index(struct tsnic *nic)
{
	return nic->ptp && tsnic_has_clock(nic) ? ptp_clock_index(nic->ptp) : -1;
}
