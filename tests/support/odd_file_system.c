// A pass-through file system that lacks what some FUSE and network file systems lack.
// Environment: ODD_ROOT is the folder it shows. ODD_STATFS, ODD_NOLINK, ODD_NOCHMOD, ODD_NOFSYNCDIR, ODD_NOFSYNC
// and ODD_BLOCKS0 take one ability away each, ODD_NAMEMAX=n longer names. It never renames without replacing.
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <fuse3/fuse.h>
#include <string.h>
#include <stdlib.h>
#include <stdio.h>
#include <unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
static const char *root; static long namemax; 
static int P(char *b,const char *p){ const char *l=strrchr(p,'/'); if(namemax&&l&&(long)strlen(l+1)>namemax) return -ENAMETOOLONG; snprintf(b,8192,"%s%s",root,p); return 0; }
#define PATH(p) char b[8192]; int e=P(b,p); if(e) return e;
static int R(int r){ return r<0?-errno:r; }
static int o_getattr(const char*p,struct stat*s,struct fuse_file_info*f){ if(f) {int r=R(fstat(f->fh,s)); if(getenv("ODD_BLOCKS0")) s->st_blocks=0; return r;} PATH(p); int r=R(lstat(b,s)); if(getenv("ODD_BLOCKS0")) s->st_blocks=0; return r; }
static int o_readdir(const char*p,void*buf,fuse_fill_dir_t fill,off_t o,struct fuse_file_info*f,enum fuse_readdir_flags g){ PATH(p); DIR*d=opendir(b); if(!d) return -errno; struct dirent*x; while((x=readdir(d))) fill(buf,x->d_name,NULL,0,0); closedir(d); return 0; }
static int o_mkdir(const char*p,mode_t m){ PATH(p); return R(mkdir(b,m)); }
static int o_unlink(const char*p){ PATH(p); return R(unlink(b)); }
static int o_rmdir(const char*p){ PATH(p); return R(rmdir(b)); }
static int o_rename(const char*p,const char*q,unsigned fl){ if(fl) return -EINVAL; PATH(p); char c[8192]; e=P(c,q); if(e) return e; return R(rename(b,c)); }
static int o_link(const char*p,const char*q){ if(getenv("ODD_NOLINK")) return -EPERM; PATH(p); char c[8192]; e=P(c,q); if(e) return e; return R(link(b,c)); }
static int o_chmod(const char*p,mode_t m,struct fuse_file_info*f){ if(getenv("ODD_NOCHMOD")) return -EPERM; if(f) return R(fchmod(f->fh,m)); PATH(p); return R(chmod(b,m)); }
static int o_truncate(const char*p,off_t s,struct fuse_file_info*f){ if(f) return R(ftruncate(f->fh,s)); PATH(p); return R(truncate(b,s)); }
static int o_create(const char*p,mode_t m,struct fuse_file_info*f){ PATH(p); int d=open(b,f->flags|O_CREAT,m); if(d<0) return -errno; f->fh=d; return 0; }
static int o_open(const char*p,struct fuse_file_info*f){ PATH(p); int d=open(b,f->flags); if(d<0) return -errno; f->fh=d; return 0; }
static int o_read(const char*p,char*u,size_t n,off_t o,struct fuse_file_info*f){ return R(pread(f->fh,u,n,o)); }
static int o_write(const char*p,const char*u,size_t n,off_t o,struct fuse_file_info*f){ return R(pwrite(f->fh,u,n,o)); }
static int o_release(const char*p,struct fuse_file_info*f){ close(f->fh); return 0; }
static int o_fsync(const char*p,int d,struct fuse_file_info*f){ if(getenv("ODD_NOFSYNC")) return -EINVAL; return R(fsync(f->fh)); }
static int o_fsyncdir(const char*p,int d,struct fuse_file_info*f){ return getenv("ODD_NOFSYNCDIR")? -EINVAL:0; }
static int o_statfs(const char*p,struct statvfs*s){ PATH("/"); int r=R(statvfs(b,s)); if(getenv("ODD_STATFS")){ s->f_blocks=s->f_bfree=s->f_bavail=0; } return r; }
static int o_utimens(const char*p,const struct timespec t[2],struct fuse_file_info*f){ PATH(p); return R(utimensat(0,b,t,AT_SYMLINK_NOFOLLOW)); }
static struct fuse_operations ops={.getattr=o_getattr,.readdir=o_readdir,.mkdir=o_mkdir,.unlink=o_unlink,.rmdir=o_rmdir,.rename=o_rename,.link=o_link,.chmod=o_chmod,.truncate=o_truncate,.create=o_create,.open=o_open,.read=o_read,.write=o_write,.release=o_release,.fsync=o_fsync,.fsyncdir=o_fsyncdir,.statfs=o_statfs,.utimens=o_utimens};
int main(int c,char**v){ root=getenv("ODD_ROOT"); namemax=getenv("ODD_NAMEMAX")?atol(getenv("ODD_NAMEMAX")):0; umask(0); return fuse_main(c,v,&ops,NULL); }
