// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {WalletProbe} from "../src/WalletProbe.sol";
import {SigningWallet} from "./mocks/SigningWallet.sol";
import {WalletFactory} from "./mocks/WalletFactory.sol";
import {Test} from "forge-std/Test.sol";

contract WalletProbeTest is Test {
    bytes32 private constant DIGEST = keccak256("sign me");
    bytes32 private constant SALT = keccak256("salt");

    WalletFactory private factory = new WalletFactory();
    uint256 private key = 0xA11CE;
    address private owner = vm.addr(0xA11CE);
    address private wallet = factory.addressOf(vm.addr(0xA11CE), SALT);

    function _sign(uint256 signer, bytes32 digest) private pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(signer, digest);
        return abi.encodePacked(r, s, v);
    }

    function _deploy() private view returns (bytes memory) {
        return abi.encodeCall(WalletFactory.deploy, (owner, SALT));
    }

    /// What is left as code is the answer.
    function _ask(
        address of_,
        bytes memory signature,
        address through,
        bytes memory input
    )
        private
        returns (bytes memory)
    {
        return address(new WalletProbe(of_, DIGEST, signature, through, input)).code;
    }

    function test_AWalletToBeAnswersForItsOwner() public {
        assertEq(_ask(wallet, _sign(key, DIGEST), address(factory), _deploy()), hex"01");
    }

    function test_AWalletToBeAnswersForNobodyElse() public {
        assertEq(_ask(wallet, _sign(0xB0B, DIGEST), address(factory), _deploy()), hex"00");
        SigningWallet(payable(wallet)).setManner(SigningWallet.Manner.Answers);
        assertEq(_ask(wallet, _sign(key, keccak256("another")), address(factory), _deploy()), hex"00");
    }

    function test_ADeployedWalletIsAskedAsItIs() public {
        factory.deploy(owner, SALT);
        assertEq(_ask(wallet, _sign(key, DIGEST), address(0xdead), ""), hex"01");
        // the factory refuses a second wallet, and is not asked for one
        assertEq(_ask(wallet, _sign(key, DIGEST), address(factory), _deploy()), hex"01");
        SigningWallet(payable(wallet)).setManner(SigningWallet.Manner.Refuses);
        assertEq(_ask(wallet, _sign(key, DIGEST), address(factory), _deploy()), hex"00");
    }

    function test_WhereNoWalletComesNobodySigned() public {
        bytes memory signature = _sign(key, DIGEST);
        // a factory that makes nothing, none at all, one that reverts
        assertEq(
            _ask(wallet, signature, address(factory), abi.encodeCall(WalletFactory.addressOf, (owner, SALT))), hex"00"
        );
        assertEq(_ask(wallet, signature, address(0xdead), ""), hex"00");
        assertEq(_ask(wallet, signature, address(factory), hex"ffffffff"), hex"00");
        // another wallet of the same owner comes
        bytes memory other = abi.encodeCall(WalletFactory.deploy, (owner, bytes32(0)));
        assertEq(_ask(wallet, signature, address(factory), other), hex"00");
        // the factory's failure counts even if somebody who answers is there in the end
        factory.deploy(owner, SALT);
        assertEq(_ask(owner, signature, address(factory), _deploy()), hex"00");
    }

    function test_OddAnswersAreNo() public {
        factory.deploy(owner, SALT);
        bytes memory signature = _sign(key, DIGEST);
        for (uint8 i = uint8(SigningWallet.Manner.Refuses); i < uint8(SigningWallet.Manner.BurnsGas); ++i) {
            SigningWallet(payable(wallet)).setManner(SigningWallet.Manner(i));
            assertEq(_ask(wallet, signature, address(0xdead), ""), hex"00");
        }
    }

    /// An answer that is a byte short is none, whatever memory holds after it.
    function test_AShortAnswerIsNo() public {
        bytes memory code = abi.encodePacked(hex"7f", bytes32(bytes4(0x1626ba7e)), hex"600052601f6000f3");
        vm.etch(wallet, code);
        assertEq(_ask(wallet, "", address(0xdead), ""), hex"00");
        code[code.length - 4] = 0x20;
        vm.etch(wallet, code);
        assertEq(_ask(wallet, "", address(0xdead), ""), hex"01");
    }

    /// However little code it has: nobody is asked to deploy it.
    function test_WhatHasCodeIsNotDeployed() public {
        vm.etch(owner, hex"00");
        assertEq(_ask(owner, "", address(factory), _deploy()), hex"00");
        assertEq(wallet.code.length, 0);
    }
}
