/* SPDX-License-Identifier: GPL-2.0-only */
/* Taking a clause of the protocol away (ablation.c). */
#ifndef TSNIC_ABLATION_H
#define TSNIC_ABLATION_H

#include <linux/netdevice.h>

/*
 * Bends the clause that is taken away, where it is in napi_complete_done(). At its entry, after the
 * rendezvous; @napi polls a receive queue of tsnic, and neither a busy poller nor netpoll is in.
 */
void ablation_before_complete(struct napi_struct *napi, int work_done);
void ablation_init(void);
void ablation_exit(void);

#endif
